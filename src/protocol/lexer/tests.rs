use proptest::prelude::*;

use super::*;

fn words(text: &str) -> Vec<String> {
    read(text, Strings::Standard).unwrap()
}

fn read(text: &str, strings: Strings) -> Result<Vec<String>, Unread> {
    let mut tokens = Vec::new();
    cut(text.as_bytes(), strings, &mut tokens)?;
    Ok(tokens
        .iter()
        .map(|token| String::from_utf8_lossy(token.of(text.as_bytes())).into_owned())
        .collect())
}

fn kinds(text: &str) -> Vec<Kind> {
    let mut tokens = Vec::new();
    cut(text.as_bytes(), Strings::Standard, &mut tokens).unwrap();
    tokens.iter().map(|token| token.kind).collect()
}

#[test]
fn comments_nest_and_a_line_comment_ends_at_a_carriage_return() {
    assert_eq!(words("/* a /* b */ c */ d"), ["d"]);
    assert_eq!(words("a -- b\rc --d\ne"), ["a", "c", "e"]);
    assert_eq!(words("SELECT/**/1"), ["SELECT", "1"]);
    assert_eq!(
        read("/* /* */ a", Strings::Standard),
        Err(Unread::Malformed)
    );
}

#[test]
fn strings_of_every_kind_end_where_the_server_ends_them() {
    assert_eq!(words("'a''b' c"), ["'a''b'", "c"]);
    assert_eq!(words(r"'a\' c"), [r"'a\'", "c"]);
    assert_eq!(words(r"E'a\'b' c"), [r"E'a\'b'", "c"]);
    assert_eq!(words("'a' -- x\n 'b' c"), ["'a' -- x\n 'b'", "c"]);
    assert_eq!(words("'a' 'b'"), ["'a'", "'b'"]);
    assert_eq!(words("E'a'\n'b\\'c' d"), ["E'a'\n'b\\'c'", "d"]);
    assert_eq!(words("$a$ $$ ' $a$ b"), ["$a$ $$ ' $a$", "b"]);
    assert_eq!(words("$é$ x $é$"), ["$é$ x $é$"]);
    assert_eq!(words("a$b$c $1"), ["a$b$c", "$1"]);
    assert_eq!(read(r"'a\'", Strings::Backslash), Err(Unread::Malformed));
    assert_eq!(read("'a", Strings::Standard), Err(Unread::Malformed));
}

#[test]
fn operators_end_before_comments_and_signs() {
    assert_eq!(words("a=-1"), ["a", "=", "-", "1"]);
    assert_eq!(words("1 @-- x"), ["1", "@"]);
    assert_eq!(words("a<@-b"), ["a", "<@-", "b"]);
    assert_eq!(words("a*/**/b"), ["a", "*", "b"]);
    assert_eq!(
        words("x::int[1:2]"),
        ["x", "::", "int", "[", "1", ":", "2", "]"]
    );
}

#[test]
fn numbers_never_swallow_the_word_behind_them() {
    assert_eq!(words("1for update"), ["1", "for", "update"]);
    assert_eq!(words("1.5e-3 .5 1. 1e"), ["1.5e-3", ".5", "1.", "1", "e"]);
}

#[test]
fn names_in_quotes_are_told_from_words() {
    assert_eq!(
        kinds(r#"a "b""c" U&"d" U&'e' N'f' x'0f'"#),
        [
            Kind::Word,
            Kind::Quoted,
            Kind::UnicodeQuoted,
            Kind::UnicodeText,
            Kind::Text,
            Kind::Bits
        ]
    );
}

#[test]
fn a_text_of_any_shape_is_read_in_bounded_memory() {
    let mut tokens = Vec::new();
    let deep = "(".repeat(10_000_000);
    let read = cut(deep.as_bytes(), Strings::Standard, &mut tokens);
    assert_eq!((read, tokens.len()), (Err(Unread::TooLong), MOST));
    let comments = "/*".repeat(1_000_000);
    assert!(cut(comments.as_bytes(), Strings::Standard, &mut tokens).is_err());
    let dollars = "$a".repeat(1_000_000);
    assert!(cut(dollars.as_bytes(), Strings::Standard, &mut tokens).is_ok());
    let long = format!("select '{}'", "x".repeat(10_000_000));
    assert!(cut(long.as_bytes(), Strings::Standard, &mut tokens).is_ok());
    assert_eq!(tokens.len(), 2);
}

#[test]
fn the_first_word_stands_behind_comments_and_parentheses() {
    assert_eq!(first_word(b"/* x */ ( -- y\n (select 1))"), b"select");
    assert_eq!(first_word(b"; begin"), b"begin");
    assert_eq!(first_word(b"'x'"), b"");
}

proptest! {
    #[test]
    fn any_bytes_are_cut_without_a_panic_and_in_order(text in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut tokens = Vec::new();
        for strings in [Strings::Standard, Strings::Backslash] {
            let _ = cut(&text, strings, &mut tokens);
            let mut last = 0;
            for token in &tokens {
                prop_assert!(token.start >= last && token.end > token.start);
                last = token.end;
            }
            first_word(&text);
        }
    }

    #[test]
    fn sql_like_texts_are_cut_without_a_panic(text in r#"[-/*'"$a-eU&()\\; \r\n.:=@0-9é]{0,60}"#) {
        let mut tokens = Vec::new();
        for strings in [Strings::Standard, Strings::Backslash] {
            let _ = cut(text.as_bytes(), strings, &mut tokens);
        }
    }
}
