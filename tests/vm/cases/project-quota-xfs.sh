# Project quotas on xfs.
# modules: xfs quota_v2
# programs: mkfs.xfs chattr setquota setpriv
# disks: 2G
. /vm/case.sh
. /vm/project-quota.sh

mkfs.xfs -q /dev/vda
mkdir /pool
mount -o prjquota /dev/vda /pool
kernel_enforces_project_quota /pool
