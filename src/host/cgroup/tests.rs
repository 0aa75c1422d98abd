use super::*;

/// Cgroups that were read, and are not read any more: numbers, parents, names.
fn some(all: &[(u64, u64, &str)]) -> Cgroups {
    let cgroups = Cgroups {
        top: 1,
        ..Cgroups::default()
    };
    cgroups.shut.set(true);
    for &(id, parent, name) in all {
        let own = all.iter().find(|one| one.0 == parent);
        let name = container::read(name, own.map_or("", |one| one.2));
        let due = 0;
        let known = Known { parent, name, due };
        cgroups.read.borrow_mut().known.insert(id, known);
    }
    cgroups
}

const ID: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

#[test]
fn the_tree_of_cgroups() {
    let docker = format!("docker-{}.scope", ID.to_uppercase());
    let all = [(2, 1, "system.slice"), (3, 2, &docker), (4, 3, "init")];
    let monitor = format!("libpod-conmon-{ID}.scope");
    let cgroups = some(&[&all[..], &[(7, 3, &monitor)]].concat());
    assert_eq!(cgroups.is_below(4, &[2]), Some(true));
    assert_eq!(cgroups.is_below(4, &[1]), Some(true));
    assert_eq!(cgroups.is_below(2, &[2]), Some(true));
    assert_eq!(cgroups.is_below(2, &[3]), Some(false));
    let begins = |id| cgroups.is_contained(id, &[ID[..12].into()]);
    assert_eq!((begins(4), begins(3)), (Some(true), Some(true)));
    assert_eq!(begins(2), Some(false));
    assert_eq!(cgroups.is_contained(4, &["ab".into()]), Some(false));
    for unknown in [5, 6] {
        assert_eq!(cgroups.is_below(unknown, &[1]), None);
        assert_eq!(cgroups.is_below(unknown, &[unknown]), Some(true));
        assert_eq!(begins(unknown), None);
        assert_eq!(cgroups.place(unknown), (Place::default(), true));
    }
    let (place, whole) = cgroups.place(4);
    assert_eq!((place.container.as_str(), place.runtime), (ID, "docker"));
    assert!(whole && place.pod.is_empty());
    assert_eq!(cgroups.place(1), (Place::default(), true));
    // Of no container, whatever it is in.
    assert_eq!(cgroups.place(7), (Place::default(), true));
}

#[test]
fn pods_are_named_by_the_folders_of_their_logs() {
    const POD: &str = "6f1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9";
    const OTHER: &str = "7f1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9";
    let top = std::env::temp_dir().join(format!("snoop-pods-{}", std::process::id()));
    std::fs::create_dir_all(top.join(format!("shop_web-0_{POD}"))).expect("folders");
    let logs = std::fs::File::open(&top).expect("the folder");
    let (pod, other) = (format!("pod{POD}"), format!("pod{OTHER}"));
    let cgroups = Cgroups {
        logs: Some(logs.into()),
        ..some(&[(2, 1, &pod), (3, 2, ID), (4, 1, &other), (5, 4, ID)])
    };
    let (place, whole) = cgroups.place(3);
    let names = ("shop".to_string(), "web-0".to_string());
    assert_eq!(
        (place.pod.as_str(), &place.names, whole),
        (POD, &names, true)
    );
    // It is not looked for all the time; then it is known that it isn't there.
    cgroups.read.borrow_mut().again_logs = u64::MAX;
    assert!(!cgroups.place(5).1);
    cgroups.read.borrow_mut().again_logs = 0;
    let (place, whole) = cgroups.place(5);
    assert_eq!((place.pod.as_str(), whole), (OTHER, true));
    assert_eq!(place.names, Default::default());
    // One that is gone stays known.
    std::fs::remove_dir_all(&top).expect("remove it");
    assert_eq!(cgroups.place(3).0.names, names);
}

/// One cgroup of a container in a pod of which all is known.
pub(crate) fn pod(id: u64) -> Cgroups {
    let (of, unit) = (
        "pod6f1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9",
        format!("crio-{ID}.scope"),
    );
    let cgroups = some(&[(2, 1, of), (id, 2, &unit)]);
    let names = ("shop".into(), "web-0".into());
    let id = of[3..].into();
    cgroups.read.borrow_mut().pods.push(Pod { id, names });
    Cgroups {
        logs: std::fs::File::open("/dev/null").ok().map(OwnedFd::from),
        ..cgroups
    }
}

/// As if it had found none: read again for one that it doesn't know, not all the time,
/// and once for each.
#[test]
fn the_tree_is_read_again() {
    let cgroups = Cgroups::open();
    if cgroups.root.is_none() {
        return;
    }
    let read = |begun, over| {
        let read = cgroups.read.borrow();
        assert_eq!((read.begun, read.over), (begun, over));
    };
    read(1, 1);
    const NONE: u64 = u64::MAX - 3;
    cgroups.read.borrow_mut().again = u64::MAX;
    assert!(!cgroups.place(NONE).1);
    read(1, 1);
    for _ in 0..3 {
        while !cgroups.place(NONE).1 {
            cgroups.read.borrow_mut().again = 0;
        }
        read(2, 2);
    }
    // Where there is no room, all are forgotten that are gone.
    for id in 0..=MOST as u64 {
        let known = &mut cgroups.read.borrow_mut().known;
        known.insert(1 << 40 | id, Known::default());
    }
    while !cgroups.place(NONE - 1).1 {
        cgroups.read.borrow_mut().again = 0;
    }
    assert!(cgroups.read.borrow().known.len() < MOST / 2);
}
