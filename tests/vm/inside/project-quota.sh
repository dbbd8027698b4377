# For the cases of project quotas: what must hold on any file system that has them.

# A folder in project 7 with a limit of 64 MiB takes that and not a byte more, and says so of itself.
kernel_enforces_project_quota() {
  local folder=$1/by-hand limit=67108864
  mkdir "$folder"
  chattr -p 7 +P "$folder"
  setquota -P 7 0 $((limit / 1024)) 0 0 "$1"
  equal "size of $folder by statvfs" $limit "$(size_of "$folder")"
  fill "$folder/file"
  full "$folder/file" $limit
  ok "the kernel enforces a project's limit by hand: $(stat -c %s "$folder/file") of $limit bytes went in"
  rm -r "$folder"
}

# The size that statvfs (and so df) tells at a path, in bytes.
size_of() { stat -fc '%b %S' "$1" | { read -r blocks unit; echo $((blocks * unit)); }; }

# Writes until the file system refuses, and fails unless that was for want of room. It writes as root of a container
# does, without CAP_SYS_RESOURCE: ext4 lets a process with it pass every quota (ignore_hardlimit in fs/quota/dquot.c).
fill() {
  if setpriv --bounding-set=-sys_resource dd if=/dev/zero of="$1" bs=64k conv=fsync 2>/tmp/fill; then fail "writing to $1 never ended in an error"; fi
  grep -qE 'No space left on device|Disk quota exceeded' /tmp/fill || fail "writing to $1: $(cat /tmp/fill)"
}

# full FILE LIMIT: what went into FILE is the limit, less at most 64 KiB: folders and extent lists count too.
full() {
  local size
  size=$(stat -c %s "$1")
  [ "$size" -le "$2" ] || fail "$1 has $size bytes, over the limit of $2"
  [ "$size" -ge $(($2 - 65536)) ] || fail "$1 has $size bytes, far below the limit of $2"
}
