# An image pool on xfs: volumes of ext4 on loop devices, snapshots and clones by reflink.
# modules: xfs loop ext4
# programs: mkfs.xfs mkfs.ext4 blkid e2fsck resize2fs tune2fs
# disks: 8G
# minutes: 60
. /vm/case.sh
. /vm/conformance.sh

mkfs.xfs -q /dev/vda
mkdir /pool
mount /dev/vda /pool
one_pool image
conforms
