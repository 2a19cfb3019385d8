-- The role whose rights this session has.
select current_user::text
