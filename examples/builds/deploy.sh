#!/bin/sh
# Makes a release of a build, points the link `current` at it, and reloads. If the new release fails, the link goes back: the
# program goes on unchanged, and a restart would start the release that works. Run it in the folder of the project:
#
#   npm run build && ../deploy.sh .output
set -eu

release=releases/$(date +%Y-%m-%d.%H%M%S.%N)
previous=$(readlink current || true)
mkdir -p releases
mv "$1" "$release"

point() { # In one step: there is always a link.
  ln -sfn "$1" next
  mv -T next current
}

point "$release"
[ -e app.pid ] || exit 0 # Nothing runs yet.
node_modules/.bin/reload-self reload app.pid || {
  point "$previous"
  exit 1
}
