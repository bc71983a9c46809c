# Sourced by the scripts in this folder.

cache=${RECHAIN_CACHE:-/var/cache/rechain-tests}
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say ()  { echo "${0##*/}: $*"; }
die ()  { echo "${0##*/}: $*" >&2; exit 1; }

# take_lock NAME: one builder of a thing at a time; a second one waits, then finds it made.
take_lock ()
{
  mkdir -p "$cache"
  exec 9> "$cache/$1.lock"
  flock -n 9 || { say "waiting for another run that makes the same"; flock 9; }
}

# with_lists PROBE...: runs PROBE; when it fails, updates apt's lists and runs it once more.
with_lists ()
{
  "$@" && return
  say "updating apt's lists"
  apt-get update -qq || true
  "$@"
}
