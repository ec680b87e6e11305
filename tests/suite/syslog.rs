//! The log goes to syslog where that is wanted. The system's own socket is no test's: the pooler sees one of the test's in its place,
//! where the machine lets a process have mounts of its own.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

use crate::support::folder;
use crate::support::pooler::config;
use crate::support::wire::PATIENCE;

/// What makes `/dev` one of its own, in which `log` leads to `$1`, and becomes the program behind.
const OWN_DEV: &str = "mount -t tmpfs tmpfs /dev && ln -s \"$1\" /dev/log && shift && exec \"$@\"";

#[test]
fn where_it_may_have_a_dev_of_its_own_its_lines_come_to_syslog_with_facility_and_name() {
    let own = ["unshare", "--map-root-user", "--mount", "sh", "-c", OWN_DEV];
    let may = Command::new(own[0])
        .args(&own[1..])
        .args(["sh", "/nowhere", "true"])
        .stdin(Stdio::null())
        .output();
    if !may.as_ref().is_ok_and(|output| output.status.success()) {
        println!("skipped: no mounts of its own may be made here: {may:?}");
        return;
    }
    let path = folder("syslog").join("log");
    let system = UnixDatagram::bind(&path).unwrap();
    system.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut words: Vec<String> = own.map(str::to_owned).to_vec();
    words.extend(["sh".to_owned(), path.to_str().unwrap().to_owned()]);
    let pooler = config()
        .pooler("syslog", true)
        .pooler("syslog_facility", "local3")
        .pooler("syslog_ident", "gatekeeper")
        .pooler("log_connections", true)
        .under(words)
        .start();
    let heard = |what: &str| {
        let mut packet = [0; 4096];
        loop {
            let length = system.recv(&mut packet).expect(what);
            let line = String::from_utf8_lossy(&packet[..length]).into_owned();
            let from = format!(" gatekeeper[{}]: ", pooler.pid());
            assert!(line.contains(&from) && !line.contains('\n'), "{line}");
            if line.contains(what) {
                return line;
            }
        }
    };
    // local3 is 19, INFO is 6.
    let line = heard("process up");
    assert!(line.starts_with("<158>"), "{line}");
    // Time and level are said once.
    let (_, said) = line.split_once("]: ").unwrap();
    assert!(
        said.starts_with("pooler::") && !said.contains("INFO"),
        "{said}"
    );
    pooler.serves();
    heard("client logged in");
    // The system's log is started again: a line may be lost, the pooler is not.
    fs::remove_file(&path).unwrap();
    pooler.serves();
    drop(system);
    let system = UnixDatagram::bind(&path).unwrap();
    system.set_read_timeout(Some(PATIENCE)).unwrap();
    pooler.serves();
    let mut packet = [0; 4096];
    assert!(system.recv(&mut packet).unwrap() > 0);
    assert!(
        pooler.log().contains("process up"),
        "standard error has it, too"
    );
}
