//! What may be shown of a value that is not a secret as a whole.

/// `text` with the user information of every URL in it masked: `https://user:password@host` is `https://***@host`.
pub(super) fn without_user_information(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + "://".len());
        shown.push_str(before);
        let authority = after.find(['/', '?', '#', ',', ' ']).unwrap_or(after.len());
        rest = match after[..authority].rfind('@') {
            Some(end) => {
                shown.push_str("***");
                &after[end..]
            }
            None => after,
        };
    }
    shown.push_str(rest);
    shown
}

#[cfg(test)]
mod tests {
    use super::without_user_information;

    #[test]
    fn a_password_in_a_url_is_masked() {
        for (text, shown) in [
            ("https://me:pw@host/a?b", "https://***@host/a?b"),
            ("https://me:p@w@host", "https://***@host"),
            ("https://host/@x", "https://host/@x"),
            ("a://b@c,d://e:f@g", "a://***@c,d://***@g"),
            ("user@host:1", "user@host:1"),
        ] {
            assert_eq!(without_user_information(text), shown);
        }
    }
}
