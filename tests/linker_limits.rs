//! Linking templates that no assembler would make: jumps at the limits, and nonsense.

use socket_snoop::bpf_insn::{Insn, Size};
use socket_snoop::bpf_link::{Field, Host, HostField, Item, LinkError, Template};

/// A host with these fields (name, offset, size) and no maps.
struct Fields<'a>(&'a [(&'a str, u16, u16)]);

impl Host for Fields<'_> {
    fn field(&self, name: &str) -> Option<HostField> {
        let found = self.0.iter().find(|(field, _, _)| *field == name)?;
        Some(HostField {
            offset: found.1,
            size: found.2,
        })
    }
    fn map_fd(&self, _: &str) -> Option<i32> {
        None
    }
}

/// Distances are checked after the expansion, with templates that no assembler would make.
#[test]
fn jump_distances() {
    let template = |items: &[Item]| {
        Template {
            items: items.to_vec(),
            ..Template::default()
        }
        .link(&Fields(&[]))
    };
    let nothing = Item::Insn(Insn::call(5));
    let jump = |target| Item::Jump {
        insn: Insn::goto(0),
        target,
    };
    let ahead = |n: usize| [vec![jump(n as u32 + 1)], vec![nothing; n]].concat();
    let back = |n: usize| [vec![nothing; n], vec![jump(0)]].concat();
    assert_eq!(template(&ahead(32767)).map(|i| i[0].off), Ok(32767));
    assert_eq!(
        template(&ahead(32768)),
        Err(LinkError::JumpRange {
            at: 0,
            distance: 32768
        })
    );
    assert_eq!(template(&back(32766)).map(|i| i[32766].off), Ok(-32767));
    assert_eq!(template(&back(32767)).map(|i| i[32767].off), Ok(-32768));
    assert_eq!(
        template(&back(32768)),
        Err(LinkError::JumpRange {
            at: 32768,
            distance: -32769
        })
    );
    // A wide number counts twice.
    let wide = [
        vec![jump(16385)],
        vec![Item::Wide { dst: 1, value: 1 }; 16384],
    ]
    .concat();
    assert_eq!(
        template(&wide),
        Err(LinkError::JumpRange {
            at: 0,
            distance: 32768
        })
    );
}

/// Items that refer to nothing are refused, not followed.
#[test]
fn broken_templates() {
    let fields = [Field {
        name: "a".into(),
        widths: vec![16, 3],
        optional: true,
    }];
    let host = [("a", 8, 16)];
    let broken = [
        Item::Jump {
            insn: Insn::goto(0),
            target: 9,
        },
        Item::Map { dst: 1, map: 0 },
        Item::Load {
            dst: 1,
            src: 6,
            field: 1,
        },
        Item::Load {
            dst: 1,
            src: 6,
            field: 0,
        },
        Item::Copy {
            to: -8,
            src: 6,
            field: 0,
            len: 17,
            via: 1,
        },
        Item::Copy {
            to: 0,
            src: 6,
            field: 0,
            len: 16,
            via: 1,
        },
        Item::If {
            field: 3,
            present: true,
            end: 1,
        },
        Item::If {
            field: 0,
            present: true,
            end: 0,
        },
        Item::If {
            field: 0,
            present: false,
            end: 2,
        },
    ];
    for item in broken {
        let template = Template {
            fields: fields.to_vec(),
            items: vec![item],
            ..Template::default()
        };
        assert_eq!(
            template.link(&Fields(&host)),
            Err(LinkError::Broken(0)),
            "{item:?}"
        );
    }
    let items = [Item::Copy {
        to: -16,
        src: 6,
        field: 0,
        len: 16,
        via: 1,
    }];
    let template = Template {
        fields: fields.to_vec(),
        items: items.to_vec(),
        ..Template::default()
    };
    assert_eq!(
        template.link(&Fields(&[])),
        Err(LinkError::Broken(0)),
        "a copy of what is not there"
    );
    assert_eq!(
        template.link(&Fields(&host)).map(|i| i[0]),
        Ok(Insn::load(Size::Dw, 1, 6, 8))
    );
}
