use super::*;
use crate::protocol::lexer::{Strings, cut};

fn split(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    cut(text.as_bytes(), Strings::Standard, &mut tokens).unwrap();
    statements(text.as_bytes(), &tokens)
        .map(|one| String::from_utf8_lossy(one.slice(0, one.tokens.len())).into_owned())
        .collect()
}

fn name(text: &str) -> Option<String> {
    let mut tokens = Vec::new();
    cut(text.as_bytes(), Strings::Standard, &mut tokens).unwrap();
    let statement = Statement {
        text: text.as_bytes(),
        tokens: &tokens,
    };
    statement
        .name(0)
        .map(|name| String::from_utf8_lossy(&name).into_owned())
}

fn value(text: &str) -> Option<String> {
    let mut tokens = Vec::new();
    cut(text.as_bytes(), Strings::Standard, &mut tokens).unwrap();
    let statement = Statement {
        text: text.as_bytes(),
        tokens: &tokens,
    };
    statement
        .text_at(0)
        .map(|value| String::from_utf8_lossy(&value).into_owned())
}

#[test]
fn a_semicolon_parts_statements_but_not_in_parentheses_or_a_function_body() {
    assert_eq!(split("; a; ;b';'; "), ["a", "b';'"]);
    assert_eq!(
        split("create rule r as on insert to t do (a; b); c"),
        ["create rule r as on insert to t do (a; b)", "c"]
    );
    let body =
        "create function f() returns int begin atomic select case when a then b end; select 1; end";
    assert_eq!(split(&format!("{body}; drop x")), [body, "drop x"]);
    assert_eq!(split("begin; select 1; end"), ["begin", "select 1", "end"]);
}

#[test]
fn names_are_folded_as_the_server_folds_them() {
    assert_eq!(name("FooÄ").as_deref(), Some("fooÄ"));
    assert_eq!(name("\"Foo\"\"x\"").as_deref(), Some("Foo\"x"));
    assert_eq!(
        name(r#"U&"\0066_w\+000072ite""#).as_deref(),
        Some("f_write")
    );
    assert_eq!(name(&"é".repeat(40)).unwrap(), "é".repeat(31));
    assert_eq!(name("'x'"), None);
}

#[test]
fn strings_say_what_the_server_hears() {
    assert_eq!(value("'it''s'").as_deref(), Some("it's"));
    assert_eq!(value("'a' -- it's\n 'b'").as_deref(), Some("ab"));
    assert_eq!(value(r"E'a\'\x41\102\u0043\\'").as_deref(), Some(r"a'ABC\"));
    assert_eq!(value(r"U&'d\0061t\+000061'").as_deref(), Some("data"));
    assert_eq!(value("U&'d!0061' uescape '!'"), None);
    assert_eq!(value("$q$it's$q$").as_deref(), Some("it's"));
    assert_eq!(value("$$$$").as_deref(), Some(""));
    assert_eq!(value("E'a''b'").as_deref(), Some("a'b"));
}

#[test]
fn what_is_quoted_reads_back() {
    for text in ["a", "it's", r"back\slash", "say \"x\""] {
        let quoted = String::from_utf8(quote_text(text.as_bytes())).unwrap();
        assert_eq!(value(&quoted).as_deref(), Some(text));
        let quoted = String::from_utf8(quote_name(text.as_bytes())).unwrap();
        assert_eq!(name(&quoted).as_deref(), Some(text));
    }
}
