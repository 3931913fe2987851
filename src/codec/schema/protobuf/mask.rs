//! Names of fields in `google.protobuf.FieldMask`.

/// A path as it stands in JSON: `user.displayName`.
pub fn lower_camel(path: &str) -> String {
    let mut camel = String::with_capacity(path.len());
    let mut is_next_upper = false;
    for c in path.chars() {
        match c {
            '_' => is_next_upper = true,
            c if std::mem::take(&mut is_next_upper) => camel.push(c.to_ascii_uppercase()),
            c => camel.push(c),
        }
    }
    camel
}

/// A path as it stands in a message: `user.display_name`.
pub fn snake(path: &str) -> String {
    let mut snake = String::with_capacity(path.len() + 4);
    for c in path.chars() {
        if c.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}
