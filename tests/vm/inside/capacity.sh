# What a folder of a limited size must do, whatever limits it.

# The size that statvfs (and so df) tells at a path, and what it says is available there, in bytes.
size_of() { stat -fc '%b %S' "$1" | { read -r blocks unit; echo $((blocks * unit)); }; }
available() { stat -fc '%a %S' "$1" | { read -r blocks unit; echo $((blocks * unit)); }; }
has_size() { [ "$(size_of "$1")" = "$2" ]; }

# Writes until the file system refuses, and fails unless that was for want of room. It writes as root of a container
# does, without CAP_SYS_RESOURCE: ext4 lets a process with it pass every quota (ignore_hardlimit in fs/quota/dquot.c).
fill() {
  if setpriv --bounding-set=-sys_resource dd if=/dev/zero of="$1" bs=64k conv=fsync 2>/tmp/fill; then
    fail "writing to $1 never ended in an error"
  fi
  grep -qE 'No space left on device|Disk quota exceeded' /tmp/fill || fail "writing to $1: $(cat /tmp/fill)"
}

# nearly WHAT BYTES GOT: not more than so many bytes, and not less by over 64 KiB: folders and extent lists count too.
nearly() {
  [ "$3" -le "$2" ] || fail "$1: $3 bytes are more than $2"
  [ "$3" -ge $(($2 - 65536)) ] || fail "$1: $3 bytes, not $2"
}

# holds FOLDER BYTES: so much goes in and no more.
holds() {
  fill "$1/fill"
  nearly "what went into $1" "$2" "$(stat -c %s "$1/fill")"
}

# shows_full FOLDER BYTES: df says that it has this size and nothing is available.
shows_full() {
  equal "size of $1 by statvfs" "$2" "$(size_of "$1")"
  equal "what is available in the full $1" 0 "$(available "$1")"
}
