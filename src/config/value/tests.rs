use super::*;

fn read(text: &str) -> Option<Duration> {
    duration(text, Duration::from_secs(1))
}

#[test]
fn lengths_of_time_are_read_with_and_without_units() {
    assert_eq!(read("5"), Some(Duration::from_secs(5)));
    assert_eq!(read("0.25"), Some(Duration::from_millis(250)));
    assert_eq!(read("250us"), Some(Duration::from_micros(250)));
    assert_eq!(read("250 ms"), Some(Duration::from_millis(250)));
    assert_eq!(read("2m"), Some(Duration::from_secs(120)));
    assert_eq!(read("1.5h"), Some(Duration::from_secs(5_400)));
    assert_eq!(read("1d"), Some(Duration::from_secs(86_400)));
    let millis = duration("5", Duration::from_millis(1));
    assert_eq!(millis, Some(Duration::from_millis(5)));
}

#[test]
fn what_is_no_length_of_time_is_refused() {
    for text in [
        "",
        "s",
        "-1",
        "-1s",
        "1w",
        "1 2",
        "1.2.3",
        "inf",
        "1e999",
        "999999999999999d",
    ] {
        assert_eq!(read(text), None, "{text}");
    }
}

#[test]
fn sizes_count_in_powers_of_1024() {
    assert_eq!(bytes("4096"), Some(4_096));
    assert_eq!(bytes("16kB"), Some(16_384));
    assert_eq!(bytes("2 MB"), Some(2 << 20));
    assert_eq!(bytes("1GB"), Some(1 << 30));
    for text in ["", "kB", "1.5MB", "1TB", "-1", "99999999999999GB"] {
        assert_eq!(bytes(text), None, "{text}");
    }
}

#[test]
fn seconds_are_printed_whole_where_they_are_whole() {
    assert_eq!(seconds(Duration::from_secs(120)), "120");
    assert_eq!(seconds(Duration::from_millis(250)), "0.25");
    assert_eq!(seconds(Duration::ZERO), "0");
}

#[test]
fn words_are_read_without_regard_to_case_and_written_as_they_are_read() {
    for mode in TlsMode::ALL {
        assert_eq!(mode.as_str().to_uppercase().parse(), Ok(*mode));
    }
    for kind in AuthType::ALL {
        assert_eq!(kind.as_str().parse(), Ok(*kind));
    }
    assert!(!"magic".parse::<AuthType>().unwrap_err().unbuilt);
}

#[test]
fn versions_of_tls_are_added_and_taken_away() {
    let read = |text: &str| text.parse::<TlsProtocols>().map(|read| read.as_str());
    assert_eq!(read("secure"), Ok("secure"));
    assert_eq!(read("all:!tlsv1.0"), Ok("secure"));
    assert_eq!(read("tlsv1.2, tlsv1.3"), Ok("secure"));
    assert_eq!(read("all,!tlsv1.3"), Ok("tlsv1.2"));
    assert!(read("tlsv1.1").unwrap_err().contains("below 1.2"));
    assert!(read("!all").is_err());
    assert!(read("ssl3").is_err());
}
