use super::*;
use proptest::prelude::*;

/// A terminal that obeys what it is told here, and nothing else.
struct Obeying {
    grid: Vec<Vec<u8>>,
    columns: usize,
    at: (usize, usize),
    /// Whether it shows the other screen, and a cursor.
    other: bool,
    cursor: bool,
    colours: bool,
}

impl Obeying {
    fn new(lines: usize, columns: usize) -> Obeying {
        Obeying {
            grid: vec![vec![b'#'; columns]; lines],
            columns,
            at: (0, 0),
            other: false,
            cursor: true,
            colours: false,
        }
    }

    /// Takes bytes; how many lines were written to.
    fn takes(&mut self, bytes: &[u8]) -> usize {
        let mut lines = 0;
        let mut rest = bytes;
        while let Some((&byte, more)) = rest.split_first() {
            rest = more;
            if byte != 0x1b {
                assert!((b' '..=b'~').contains(&byte), "{}", bytes.escape_ascii());
                self.grid[self.at.0][self.at.1] = byte;
                self.at.1 += 1;
                continue;
            }
            let end = rest
                .iter()
                .position(u8::is_ascii_alphabetic)
                .expect("an end");
            let sequence = std::str::from_utf8(&rest[..=end]).expect("ASCII");
            rest = &rest[end + 1..];
            match sequence {
                "[?1049h" => self.other = true,
                "[?1049l" => self.other = false,
                "[?25h" => self.cursor = true,
                "[?25l" => self.cursor = false,
                "[K" => {
                    // In the last column it would erase what was written there.
                    assert!(self.at.1 < self.columns);
                    self.grid[self.at.0][self.at.1..].fill(b' ');
                }
                "[m" | "[1m" | "[2m" | "[7m" => {}
                "[31m" | "[33m" => self.colours = true,
                _ => {
                    let place = sequence.strip_suffix(";1H").expect("to a line's start");
                    let line: usize = place[1..].parse().expect("a line");
                    self.at = (line - 1, 0);
                    lines += 1;
                }
            }
        }
        lines
    }
}

fn line(text: &[u8], style: Style) -> Line {
    Line {
        style,
        text: text.to_vec(),
    }
}

fn draw(screen: &mut Screen, lines: &[Line], columns: usize) -> Vec<u8> {
    let mut out = Vec::new();
    screen.draw(lines.to_vec(), columns, &mut out);
    out
}

#[test]
fn only_what_has_changed_is_written() {
    let mut terminal = Obeying::new(3, 10);
    let mut screen = Screen::new(true, true);
    let hot = Style::Of(Heat::Hot);
    let mut lines = vec![
        line(b"0123456789", Style::Bar),
        line(b"ab", hot),
        line(b"", Style::Plain),
    ];
    assert_eq!(terminal.takes(&draw(&mut screen, &lines, 10)), 3);
    assert!(terminal.other && !terminal.cursor && terminal.colours);
    assert_eq!(
        terminal.grid,
        [&b"0123456789"[..], b"ab        ", b"          "]
    );
    // Nothing, then a line, then how one looks.
    assert_eq!(draw(&mut screen, &lines, 10), b"");
    lines[1].text = b"c".into();
    assert_eq!(
        draw(&mut screen, &lines, 10),
        b"\x1b[2;1H\x1b[31mc\x1b[m\x1b[K"
    );
    lines[1].style = Style::Of(Heat::Over);
    assert_eq!(
        draw(&mut screen, &lines, 10),
        b"\x1b[2;1H\x1b[2mc\x1b[m\x1b[K"
    );
    // Whoever else has written there.
    screen.forget();
    assert_eq!(terminal.takes(&draw(&mut screen, &lines, 10)), 3);
    let mut out = Vec::new();
    screen.leave(&mut out);
    terminal.takes(&out);
    assert!(!terminal.other && terminal.cursor);
    // Once.
    out.clear();
    screen.leave(&mut out);
    assert_eq!(out, b"");
}

#[test]
fn without_colours_there_are_none() {
    let mut terminal = Obeying::new(4, 10);
    let mut screen = Screen::new(true, false);
    let heats = [Heat::None, Heat::Over, Heat::Warm, Heat::Hot];
    let lines = heats.map(|heat| line(b"x", Style::Of(heat)));
    terminal.takes(&draw(&mut screen, &lines, 10));
    assert!(!terminal.colours);
}

#[test]
fn a_block_is_plain() {
    let mut screen = Screen::new(false, true);
    let lines = [
        line(b"head", Style::Bar),
        line(b"row  ", Style::Of(Heat::Hot)),
    ];
    assert_eq!(draw(&mut screen, &lines, 10), b"head\nrow\n");
    assert_eq!(draw(&mut screen, &lines, 10), b"\nhead\nrow\n");
    let mut out = Vec::new();
    screen.leave(&mut out);
    assert_eq!(out, b"");
}

fn lines(count: usize, columns: usize) -> impl Strategy<Value = Vec<Line>> {
    let styles = [
        Style::Plain,
        Style::Bold,
        Style::Bar,
        Style::Of(Heat::Over),
        Style::Of(Heat::Hot),
    ];
    let text = prop::collection::vec(b' '..=b'c', 0..=columns);
    let line = (text, 0..styles.len()).prop_map(move |(text, style)| Line {
        style: styles[style],
        text,
    });
    prop::collection::vec(line, count)
}

proptest! {
    /// After any frames, on a terminal that becomes another one meanwhile, there stands
    /// what the last one says.
    #[test]
    fn what_stands_there_is_the_last_frame(
        frames in prop::collection::vec(
            (1usize..6, 1usize..12).prop_flat_map(|(count, columns)| {
                (Just(columns), prop::collection::vec(lines(count, columns), 1..4))
            }),
            1..4,
        ),
    ) {
        let mut screen = Screen::new(true, true);
        for (columns, frames) in frames {
            let mut terminal = Obeying::new(frames[0].len(), columns);
            // SIGWINCH.
            screen.forget();
            for frame in &frames {
                terminal.takes(&draw(&mut screen, frame, columns));
                for (line, stands) in frame.iter().zip(&terminal.grid) {
                    let mut text = line.text.clone();
                    text.resize(columns, b' ');
                    prop_assert_eq!(&text, stands);
                }
            }
        }
    }
}
