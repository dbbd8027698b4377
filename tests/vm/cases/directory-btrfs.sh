# A directory pool on btrfs, on a kernel without simple quotas (they came with 6.7): qgroups limit the volumes.
# modules: btrfs
# programs: mkfs.btrfs btrfs setpriv kubectl
# disks: 6G
# minutes: 60
. /vm/case.sh
. /vm/directory.sh
df=no

mkfs.btrfs -q /dev/vda
mkdir /pool
mount /dev/vda /pool
sizes_are_enforced
conforms
