//! JAAS login modules, as far as `sasl.jaas.config` has them: `CLASS required name="value" …;`.

/// The options of a login module.
pub type JaasOptions = Vec<(String, String)>;

/// Parses the options of a login module.
///
/// # Errors
/// The text is not one login module.
pub fn jaas_options(text: &str) -> Result<JaasOptions, String> {
    options(text).ok_or_else(|| "expected CLASS required username=\"…\" password=\"…\";".to_owned())
}

fn options(text: &str) -> Option<JaasOptions> {
    let module = text.trim().strip_suffix(';')?.trim();
    let (_class, after) = module.split_once(char::is_whitespace)?;
    let mut rest = after.trim_start().split_once(char::is_whitespace).map_or("", |(_flag, options)| options).trim();
    let mut options = Vec::new();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=')?;
        let (value, end) = value(after.trim_start())?;
        options.push((name.trim().to_owned(), value));
        rest = end.trim_start();
    }
    Some(options)
}

/// A value at the start of `text`, and what follows it.
fn value(text: &str) -> Option<(String, &str)> {
    if let Some(quoted) = text.strip_prefix('"') {
        return quoted_value(quoted);
    }
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    Some((text[..end].to_owned(), &text[end..]))
}

/// Up to the closing quote; a backslash takes the next character as it is.
fn quoted_value(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_module_may_have_no_options() {
        assert_eq!(jaas_options("x.OAuthBearerLoginModule required;"), Ok(Vec::new()));
        assert!(jaas_options("x").is_err() && jaas_options("x required a=\"b;").is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_met(text in "[a-z=\"\\\\; é]{0,60}") {
            let _ = jaas_options(&text);
        }
    }
}
