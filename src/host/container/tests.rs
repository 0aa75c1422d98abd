use super::*;

const ID: &str = "3f4b1a0c9d8e7f60514233241506978877665544332211009f8e7d6c5b4a3928";
const UID: &str = "6f1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9";
/// That of a static pod.
const STATIC: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f0";

/// What a whole path says: container, runtime, pod. ID, UID, ESCAPED and STATIC stand
/// for those above.
fn of(path: &str) -> (String, &'static str, String) {
    let path = path.replace("ESCAPED", &UID.replace('-', "_"));
    let path = path.replace("STATIC", STATIC).replace("UID", UID);
    let path = path.replace("ID", ID);
    let parts: Vec<&str> = path.split('/').collect();
    let (mut container, mut pod) = (None, None);
    for (at, part) in parts.iter().enumerate().skip(1).rev() {
        let name = read(part, parts[at - 1]);
        if name.outside {
            break;
        }
        container = container.or(name.container);
        pod = pod.or(name.pod);
    }
    let (id, runtime) = container.unwrap_or_default();
    (id, runtime, pod.unwrap_or_default())
}

#[test]
fn paths_of_containers() {
    const SLICE: &str = "/kubepods.slice/kubepods-burstable.slice";
    let pods = format!("{SLICE}/kubepods-burstable-podESCAPED.slice");
    for (path, runtime, pod) in [
        // Docker: systemd's driver, and folders, of version 1, too.
        ("/system.slice/docker-ID.scope", "docker", ""),
        ("/docker/ID", "docker", ""),
        ("/docker/ID/init.scope", "docker", ""),
        // Without root.
        (
            "/user.slice/user-1000.slice/user@1000.service/user.slice/docker-ID.scope",
            "docker",
            "",
        ),
        // containerd, by nerdctl.
        ("/system.slice/nerdctl-ID.scope", "containerd", ""),
        ("/default/ID", "", ""),
        // Kubernetes: by systemd's driver.
        (
            &format!("{pods}/cri-containerd-ID.scope"),
            "containerd",
            UID,
        ),
        (&format!("{pods}/crio-ID.scope"), "cri-o", UID),
        (&format!("{pods}/crio-ID.scope/container"), "cri-o", UID),
        (&format!("{pods}/docker-ID.scope"), "docker", UID),
        (
            "/kubepods.slice/kubepods-podESCAPED.slice/cri-containerd-ID.scope",
            "containerd",
            UID,
        ),
        (
            "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podSTATIC.slice/crio-ID.scope",
            "cri-o",
            STATIC,
        ),
        // That of kind, below a slice of its own.
        (
            "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-podESCAPED.slice/cri-containerd-ID.scope",
            "containerd",
            UID,
        ),
        // By folders.
        ("/kubepods/burstable/podUID/ID", "", UID),
        ("/kubepods/podUID/ID", "", UID),
        ("/kubepods/besteffort/podUID/crio-ID", "cri-o", UID),
        ("/kubepods/besteffort/podSTATIC/ID", "", STATIC),
        // The two drivers at odds.
        (
            "/system.slice/containerd.service/kubepods-burstable-podESCAPED.slice:cri-containerd:ID",
            "containerd",
            UID,
        ),
        // Podman: systemd's driver, folders, in a service.
        ("/machine.slice/libpod-ID.scope", "podman", ""),
        ("/machine.slice/libpod-ID.scope/container", "podman", ""),
        ("/libpod_parent/libpod-ID", "podman", ""),
        ("/system.slice/web.service/libpod-payload-ID", "podman", ""),
        // One in another one: the inner one.
        (
            "/docker/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef/docker/ID",
            "docker",
            "",
        ),
    ] {
        assert_eq!(of(path), (ID.into(), runtime, pod.into()), "{path}");
    }
}

#[test]
fn machines() {
    for (path, name) in [
        ("/machine.slice/machine-web.scope", "web"),
        ("/machine.slice/machine-web.scope/payload/init.scope", "web"),
        (
            r"/machine.slice/machine-web\x2dnorth\x2d1.scope",
            "web-north-1",
        ),
        ("/machine.slice/systemd-nspawn@web.service/payload", "web"),
    ] {
        assert_eq!(of(path), (name.into(), NSPAWN, String::new()), "{path}");
    }
    let ecs = format!("/ecs/{STATIC}/{STATIC}-1234567890");
    assert_eq!(of(&ecs).0, format!("{STATIC}-1234567890"));
}

#[test]
fn what_is_no_container() {
    for path in [
        "/system.slice/ssh.service",
        "/deadbeef",
        "/init.scope",
        // systemd-run's, and a desktop's.
        "/system.slice/run-rSTATIC.scope",
        "/user.slice/user-1000.slice/user@1000.service/app.slice/snap.x-UID.scope",
        // Beside the container.
        "/machine.slice/libpod-conmon-ID.scope",
        "/kubepods.slice/kubepods-podESCAPED.slice/crio-conmon-ID.scope",
        "/machine.slice/machine-web.scope/supervisor",
        // A virtual machine.
        r"/machine.slice/machine-qemu\x2d1\x2dweb.scope",
        "/kubepods.slice/kubepods-burstable.slice",
        "/tripodESCAPED",
        "",
    ] {
        assert_eq!(of(path), (String::new(), "", String::new()), "{path}");
    }
    // A pod that is no container.
    let (container, _, pod) = of("/kubepods.slice/kubepods-podSTATIC.slice/kata_overhead");
    assert_eq!((container.as_str(), pod.as_str()), ("", STATIC));
}

#[test]
fn folders_of_logs() {
    let folder = format!("kube-system_coredns-5d78c_{UID}");
    assert_eq!(logs(&folder, UID), Some(("kube-system", "coredns-5d78c")));
    assert_eq!(logs(&folder, STATIC), None);
    for folder in ["", "a", "a_b", UID] {
        assert_eq!(logs(folder, UID), None, "{folder}");
    }
}
