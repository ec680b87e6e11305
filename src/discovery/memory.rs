//! What is remembered of a cluster over a restart: one small file per cluster in `state_dir`.
//!
//! Without it, a pooler that is restarted while an old primary is up again could take that one for the writer. A file that is missing
//! remembers nothing. One that cannot be read, is damaged, or was written by a later version is set aside, and the cluster is told that
//! something was forgotten: it then takes a writer only where the keeper names it, every node agrees, or an operator says so. That, too,
//! is written down. A file that cannot be written is warned of, and the pooler goes on, for it knows what it knows.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::topology::choice::Memory;

/// The version of the file's form.
const VERSION: &str = "pooler-cluster 1";

/// The file of the cluster `name`. Letters that a file's name should not have are written as numbers.
pub fn file(folder: &Path, name: &str) -> PathBuf {
    let safe = name.bytes().map(|byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => char::from(byte).to_string(),
        _ => format!("%{byte:02x}"),
    });
    folder.join(format!("cluster-{}.state", safe.collect::<String>()))
}

/// What comes of reading a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recalled {
    /// What is remembered.
    pub memory: Memory,
    /// What is wrong with the file, and what was done about it.
    pub warning: Option<String>,
}

/// Reads what is remembered; nothing where there is no file. One that is of no use becomes `FILE.corrupt`.
pub fn recall(file: &Path) -> Recalled {
    let read = match fs::read(file) {
        Ok(bytes) => parse(&String::from_utf8_lossy(&bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Memory::default()),
        Err(error) => Err(format!("cannot read it: {error}")),
    };
    let why = match read {
        Ok(memory) => {
            return Recalled {
                memory,
                warning: None,
            };
        }
        Err(why) => why,
    };
    let memory = Memory {
        is_lost: true,
        ..Memory::default()
    };
    let aside = file.with_extension("state.corrupt");
    let done = match set_aside(file, &aside).and_then(|()| write(file, &memory)) {
        Ok(()) => format!("it is kept as {}", aside.display()),
        Err(error) => format!("it cannot be set aside: {error}"),
    };
    Recalled {
        memory,
        warning: Some(format!("{}: {why}; {done}", file.display())),
    }
}

/// Keeps `file` under another name. It is there under its own, too, until the next one is written: whoever starts in between must
/// not find nothing.
fn set_aside(file: &Path, aside: &Path) -> io::Result<()> {
    match fs::remove_file(aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    fs::hard_link(file, aside).or_else(|_| fs::rename(file, aside))
}

fn parse(text: &str) -> Result<Memory, String> {
    let mut lines = text.lines();
    match lines.next() {
        Some(VERSION) => {}
        Some(other) if other.starts_with("pooler-cluster ") => {
            return Err(format!("it was written by another version (\"{other}\")"));
        }
        Some(_) | None => return Err("it is damaged".to_owned()),
    }
    let mut memory = Memory::default();
    let mut is_whole = false;
    for line in lines {
        let (key, value) = line.split_once(' ').unwrap_or((line, ""));
        let number = || {
            value
                .parse::<u64>()
                .map_err(|_| format!("it is damaged: {line:?}"))
        };
        match key {
            "system" => memory.system = number()?,
            "timeline" => {
                let number = u32::try_from(number()?);
                memory.timeline = number.map_err(|_| format!("it is damaged: {line:?}"))?;
            }
            "writer" => memory.writer = Some(value.to_owned()),
            "given_up" => memory.given_up.push(value.to_owned()),
            "lost" => memory.is_lost = true,
            "end" => is_whole = true,
            _ => return Err(format!("it is damaged: {line:?}")),
        }
    }
    if is_whole {
        Ok(memory)
    } else {
        Err("it is damaged: its end is missing".to_owned())
    }
}

/// Writes what is to be remembered: whole, or not at all.
///
/// # Errors
/// What the system says.
pub fn write(file: &Path, memory: &Memory) -> io::Result<()> {
    let mut text = format!(
        "{VERSION}\nsystem {}\ntimeline {}\n",
        memory.system, memory.timeline
    );
    if let Some(writer) = &memory.writer {
        text.push_str(&format!("writer {writer}\n"));
    }
    for address in &memory.given_up {
        text.push_str(&format!("given_up {address}\n"));
    }
    if memory.is_lost {
        text.push_str("lost\n");
    }
    text.push_str("end\n");
    let fresh = file.with_extension("new");
    let mut out = fs::File::create(&fresh)?;
    out.write_all(text.as_bytes())?;
    out.sync_all()?;
    drop(out);
    fs::rename(&fresh, file)
}

#[cfg(test)]
mod tests {
    use super::{file, parse, recall, write};
    use crate::topology::choice::Memory;
    use std::path::{Path, PathBuf};

    /// A folder of its own for each test.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let folder = format!("pooler-memory-{name}-{}", std::process::id());
            let folder = std::env::temp_dir().join(folder);
            std::fs::create_dir_all(&folder).unwrap();
            Self(folder)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn memory() -> Memory {
        Memory {
            system: 7,
            timeline: 5,
            writer: Some("a:5432".into()),
            is_lost: false,
            given_up: vec!["b:5432".into(), "/var/run/pg:5432".into()],
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let folder = Folder::new("read");
        let path = file(&folder.0, "ma/in");
        assert!(path.ends_with("cluster-ma%2fin.state"));
        assert_eq!(recall(&path).memory, Memory::default());
        write(&path, &memory()).unwrap();
        let recalled = recall(&path);
        assert_eq!((recalled.memory, recalled.warning), (memory(), None));
        assert!(write(Path::new("/nowhere/x"), &memory()).is_err());
    }

    #[test]
    fn what_is_no_use_is_set_aside_and_that_something_was_forgotten_is_not_forgotten() {
        let folder = Folder::new("aside");
        let path = file(&folder.0, "main");
        for text in [
            &b"nonsense"[..],
            b"",
            b"\xff\xfe\0",
            b"pooler-cluster 9\nend\n",
        ] {
            std::fs::write(&path, text).unwrap();
            let recalled = recall(&path);
            assert!(recalled.memory.is_lost);
            let warning = recalled.warning.unwrap();
            assert!(warning.contains("cluster-main.state.corrupt"), "{warning}");
            let kept = std::fs::read(folder.0.join("cluster-main.state.corrupt"));
            assert_eq!(kept.unwrap(), text);
            let again = recall(&path);
            assert!(again.memory.is_lost && again.warning.is_none());
        }
        // Not even a file.
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(recall(&path).memory.is_lost);
        assert!(path.is_file());
    }

    #[test]
    fn half_a_file_and_one_from_the_future_are_refused() {
        assert!(parse("pooler-cluster 1\nsystem 7\n").is_err());
        assert!(parse("pooler-cluster 1\nsystem 7\ntimeline x\nend\n").is_err());
        let why = parse("pooler-cluster 2\nend\n").unwrap_err();
        assert!(why.contains("another version"), "{why}");
    }
}
