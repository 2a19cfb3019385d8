select pgreact.mute()
