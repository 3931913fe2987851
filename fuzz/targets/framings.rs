//! Bytes and headers that may name a schema.

use super::Input;
use kpipe::record::HeaderBuf;
use kpipe::registry::framing::{Framing, Part, read_apicurio_reference, read_indexes, write_frame};

/// Whatever is recognized lies within the bytes, and a frame in front of a body is written again as it was.
pub fn framings(data: &[u8]) {
    let mut input = Input(data);
    let (which, header) = (input.byte(), input.bytes());
    let bytes = input.0;
    let names: [&[u8]; 4] =
        [b"__value_schema_id", b"apicurio.value.globalId", b"apicurio.value.contentId", b"apicurio.protobuf.type"];
    let mut headers = HeaderBuf::default();
    if which & 1 == 1 {
        headers.push(names[usize::from(which >> 1) % names.len()], Some(header));
    }
    for (_, framing) in Framing::ALL {
        let Some(found) = framing.recognize(Part::Value, bytes, headers.as_headers()) else { continue };
        assert!(bytes.ends_with(found.body));
        if headers.as_headers().is_empty() && bytes.first() != Some(&3) {
            let mut again = Vec::new();
            write_frame(found.id, &mut again);
            again.extend_from_slice(found.body);
            assert_eq!(again, bytes);
        }
        let (mut body, mut path) = (found.body, Vec::new());
        let _ = read_indexes(&mut body, &mut path);
        let _ = read_apicurio_reference(&mut body);
    }
}
