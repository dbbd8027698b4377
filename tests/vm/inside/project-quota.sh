# For the cases of project quotas on a file system that is mounted with them at /pool.
. /vm/directory.sh
df=yes

# A folder in project 7 with a limit of 64 MiB. Should this fail, no driver is to blame.
kernel_enforces() {
  mkdir /pool/by-hand
  chattr -p 7 +P /pool/by-hand
  setquota -P 7 0 65536 0 0 /pool
  holds /pool/by-hand $((64 * mib))
  shows_full /pool/by-hand $((64 * mib))
  rm -r /pool/by-hand
  setquota -P 7 0 0 0 0 /pool
  ok "the kernel enforces a limit that is set by hand"
}
