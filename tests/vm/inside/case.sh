# What cases share; a case starts with `. /vm/case.sh`. Each of these ends the case when what it says does not hold.

# One line in the log for what was proven.
ok() { echo "ok: $*"; }
fail() {
  echo "FAILED: $*"
  exit 1
}

# wait_for SECONDS WHAT COMMAND…: until the command succeeds.
wait_for() {
  local seconds=$1 what=$2 end
  shift 2
  end=$(($(date +%s) + seconds))
  until "$@" >/dev/null 2>&1; do
    [ "$(date +%s)" -lt "$end" ] || fail "$what: not within $seconds s"
    sleep 0.2
  done
}

# equal WHAT WANTED GOT
equal() { [ "$2" = "$3" ] || fail "$1: wanted $2, got $3"; }
