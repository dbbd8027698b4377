# Project quotas on ext4.
# modules: ext4 quota_v2
# programs: mkfs.ext4 chattr setquota setpriv
# disks: 2G
. /vm/case.sh
. /vm/project-quota.sh

mkfs.ext4 -q -O quota,project /dev/vda
mkdir /pool
mount -o prjquota /dev/vda /pool
kernel_enforces_project_quota /pool
