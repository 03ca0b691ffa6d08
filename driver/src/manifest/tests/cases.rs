//! The options of the golden files.

/// Name of the golden file, name of the node, driver options, platforms, flags of `buildkitd`, pods.
pub(super) type Case =
    (&'static str, &'static str, &'static [&'static str], &'static str, &'static [&'static str], u32);

pub(super) const CASES: [Case; 26] = [
    ("default", "kube0", &[], "", &[], 1),
    ("exec-only", "kube0", &["transport=exec"], "", &[], 1),
    ("rootless", "kube0", &["rootless=true"], "", &[], 2),
    ("rootless-exec", "kube0", &["rootless=true,transport=exec"], "", &[], 1),
    ("rootless-false", "kube0", &["rootless=false"], "", &[], 1),
    ("rootless-own-image", "kube0", &["rootless=true,image=registry.example:5000/buildkit:mine"], "", &[], 1),
    ("qemu", "kube0", &["qemu.install=true"], "linux/amd64,linux/arm64", &[], 1),
    ("qemu-rootless", "kube0", &["qemu.install=1,qemu.image=registry.example/binfmt:1,rootless=true"], "", &[], 1),
    (
        "resources",
        "kube0",
        &["requests.cpu=500m,requests.memory=1.5Gi", "limits.cpu=2,limits.memory=4Gi,replicas=3"],
        "",
        &[],
        3,
    ),
    (
        "machines",
        "arm_node.1",
        &[
            "\"nodeselector=kubernetes.io/arch=arm64,disk=ssd\"",
            "\"tolerations=key=builders,operator=Equal,value=only,effect=NoExecute,tolerationSeconds=60;operator=Exists\"",
        ],
        "linux/arm64,linux/arm/v7",
        &[],
        1,
    ),
    ("drain", "kube0", &["drain-timeout=1m30.5s"], "", &[], 1),
    ("drain-none", "kube0", &["drain-timeout=0"], "", &[], 1),
    ("platforms", "kube0", &["nodeselector=disk=ssd"], "linux/amd64,linux/386", &[], 0),
    (
        "flags",
        "kube0",
        &["transport=pod-ip"],
        "linux/amd64,linux/arm64",
        &["--allow-insecure-entitlement=security.insecure", "--oci-max-parallelism", "4"],
        1,
    ),
    (
        "decorated",
        "kube0",
        &[
            "labels=team=web",
            "\"annotations=a=b=c,example.com/d=\"",
            "\"annotations.example.com/note=x,y=z\"",
            "env.HTTPS_PROXY=http://proxy.example:3128",
            "\"env.NO_PROXY=localhost,.svc\"",
            "serviceaccount=builder,schedulername=volcano,priorityclass=high,runtimeclass=kata",
            "\"imagepullsecrets=regcred,other\"",
        ],
        "linux/amd64",
        &[],
        1,
    ),
    ("disk", "kube0", &["requests.ephemeral-storage=5Gi,limits.ephemeral-storage=10Gi"], "", &[], 1),
    ("memory", "kube0", &["buildkit-root-volume-memory=2Gi"], "", &[], 1),
    ("memory-rootless", "kube0", &["buildkit-root-volume-memory=2Gi,rootless=true"], "", &[], 1),
    ("volume", "kube0", &["persistent-volume-claim.requests.storage=10Gi"], "", &[], 2),
    (
        "volume-rootless",
        "kube0",
        &[
            "persistent-volume-claim.requests.storage=10Gi,rootless=true,storageclass=fast,volume-access-mode=ReadWriteOncePod",
        ],
        "",
        &[],
        1,
    ),
    ("user-namespace", "kube0", &["hostusers=false"], "", &[], 1),
    (
        "spread",
        "kube0",
        &[
            "\"affinity={nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: \
              [{matchExpressions: [{key: disk, operator: In, values: [ssd]}]}]}}}\"",
            "\"topologyspread={maxSkew: 1, topologyKey: zone, whenUnsatisfiable: ScheduleAnyway}\"",
        ],
        "linux/amd64",
        &[],
        3,
    ),
    ("ttl", "kube0", &["ttl=24h"], "", &[], 1),
    ("budget", "kube0", &["poddisruptionbudget=maxUnavailable=50%,replicas=4"], "", &[], 4),
    (
        "patched",
        "kube0",
        &[
            "\"manifest-patch={metadata: {annotations: {a: b}}, spec: {strategy: {type: Recreate, rollingUpdate: null}, \
            template: {spec: {dnsPolicy: Default, enableServiceLinks: null, tolerations: [{operator: Exists}], \
            containers: [{name: buildkitd, readinessProbe: {periodSeconds: 60, initialDelaySeconds: null}, \
            volumeMounts: [{name: scratch, mountPath: /scratch}]}, {name: beside, image: pause}], \
            volumes: [{name: scratch, emptyDir: {}}]}}}}\"",
        ],
        "",
        &[],
        1,
    ),
    (
        "configured",
        "configured0",
        &["persistent-volume-claim.requests.storage=10Gi,poddisruptionbudget=minAvailable=1"],
        "",
        &[],
        1,
    ),
];
