//! What is remembered of a cluster over a restart: one small file per cluster in `state_dir`.
//!
//! Without it, a pooler that is restarted while an old primary is up again could take that one for the writer. A file that is missing
//! remembers nothing. One that cannot be read, or was written by a later version, stops the start: to guess would be to risk
//! writes. One that cannot be written is warned of, and the pooler goes on, for it knows what it knows.

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

/// Reads what is remembered; nothing where there is no file.
///
/// # Errors
/// A text that says what is wrong with the file, and what to do.
pub fn read(file: &Path) -> Result<Memory, String> {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Memory::default()),
        Err(error) => return Err(format!("{}: cannot read it: {error}", file.display())),
    };
    parse(&text).map_err(|why| {
        format!(
            "{}: {why}; if the cluster's primary is known to be right, remove the file and start again",
            file.display()
        )
    })
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
    use super::{file, parse, read, write};
    use crate::topology::choice::Memory;
    use std::path::Path;

    #[test]
    fn what_was_written_is_read_and_nothing_else_is_believed() {
        let folder = std::env::temp_dir().join(format!("pooler-memory-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = file(&folder, "ma/in");
        assert!(path.ends_with("cluster-ma%2fin.state"));
        assert_eq!(read(&path).unwrap(), Memory::default());
        let memory = Memory {
            system: 7,
            timeline: 5,
            writer: Some("a:5432".into()),
        };
        write(&path, &memory).unwrap();
        assert_eq!(read(&path).unwrap(), memory);
        std::fs::write(&path, "nonsense").unwrap();
        assert!(read(&path).unwrap_err().contains("damaged"));
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(write(Path::new("/nowhere/x"), &memory).is_err());
    }

    #[test]
    fn half_a_file_and_one_from_the_future_are_refused() {
        assert!(parse("pooler-cluster 1\nsystem 7\n").is_err());
        let why = parse("pooler-cluster 2\nend\n").unwrap_err();
        assert!(why.contains("another version"), "{why}");
    }
}
