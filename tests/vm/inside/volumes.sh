# For cases that take the whole way: holdfast up on /run/pools.toml, claims and pods through kubectl.
k() { kubectl --kubeconfig /run/root/kubeconfig "$@"; }

up_start() {
  holdfast up --root /run/root --node-name vm --pools /run/pools.toml >>/run/up.log 2>&1 &
  up=$!
  wait_for 120 "holdfast up has its driver registered" driver_registered
  [ -e /run/class ] || k apply -f - >/run/class <<'YAML'
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: local}
provisioner: csi.holdfast.dev
parameters: {pool: default}
allowVolumeExpansion: true
YAML
}

driver_registered() { [ "$(k get csinodes -o 'jsonpath={.items[*].spec.drivers[*].name}')" = csi.holdfast.dev ]; }

up_kill() {
  kill -9 "$up"
  wait "$up" || true
}

# Ctrl-C: it must end by itself, and cleanly.
up_stop() {
  kill -INT "$up"
  wait "$up" || fail "holdfast up ended with status $?"
}

# volume NAME SIZE: a claim and a pod of that name; its path in the pod is then in $path.
volume() {
  claim "$1" "$2"
  k apply -f - >/dev/null <<YAML
apiVersion: v1
kind: Pod
metadata: {name: $1, namespace: default}
spec:
  containers: [{name: app, image: none, volumeMounts: [{name: data, mountPath: /data}]}]
  volumes: [{name: data, persistentVolumeClaim: {claimName: $1}}]
YAML
  wait_for 60 "pod $1 has its volume" published "$1"
}

claim() {
  k apply -f - >/dev/null <<YAML
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: $1, namespace: default}
spec:
  storageClassName: local
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: $2}}
YAML
}

published() {
  local uid pv
  uid=$(k get pod "$1" -o 'jsonpath={.metadata.uid}')
  pv=$(k get pvc "$1" -o 'jsonpath={.spec.volumeName}')
  path=/run/root/kubelet/pods/$uid/volumes/kubernetes.io~csi/$pv/mount
  [ -n "$uid" ] && [ -n "$pv" ] && grep -q " $path " /proc/mounts
}

claim_has() { [ "$(k get pvc "$1" -o 'jsonpath={.status.capacity.storage}')" = "$2" ]; }

grow() { k patch pvc "$1" -p "{\"spec\":{\"resources\":{\"requests\":{\"storage\":\"$2\"}}}}" >/dev/null; }

# remove NAME: the pod, the claim and the volume, until none of them is left.
remove() {
  k delete --wait=false "pod/$1" "pvc/$1" >/dev/null
  wait_for 60 "volume $1 is gone" gone "$1"
}

gone() {
  local left
  left=$(k get pod,pvc,pv -o "jsonpath={.items[?(@.metadata.name==\"$1\")].kind}{.items[?(@.spec.claimRef.name==\"$1\")].kind}") &&
    [ -z "$left" ]
}
