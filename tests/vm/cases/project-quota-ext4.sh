# A directory pool on ext4 with project quotas.
# modules: ext4 quota_v2
# programs: mkfs.ext4 chattr setquota setpriv kubectl
# disks: 6G
# minutes: 60
. /vm/case.sh
. /vm/project-quota.sh

mkfs.ext4 -q -O quota,project /dev/vda
mkdir /pool
mount -o prjquota /dev/vda /pool
kernel_enforces
sizes_are_enforced
conforms
