# A directory pool on xfs with project quotas.
# modules: xfs
# programs: mkfs.xfs chattr setquota setpriv kubectl
# disks: 6G
# minutes: 60
. /vm/case.sh
. /vm/project-quota.sh

mkfs.xfs -q /dev/vda
mkdir /pool
mount -o prjquota /dev/vda /pool
kernel_enforces
sizes_are_enforced
conforms
