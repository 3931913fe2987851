//! Bytes and headers that may name a schema: whatever is recognized lies within them.
#![no_main]

use kpipe::record::HeaderBuf;
use kpipe::registry::framing::{Framing, Part, read_apicurio_reference, read_indexes, write_frame};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (Vec<u8>, Vec<u8>, u8)| {
    let (bytes, header, which) = input;
    let names: [&[u8]; 4] =
        [b"__value_schema_id", b"apicurio.value.globalId", b"apicurio.value.contentId", b"apicurio.protobuf.type"];
    let mut headers = HeaderBuf::default();
    if which & 1 == 1 {
        headers.push(names[usize::from(which >> 1) % names.len()], Some(&header));
    }
    for (_, framing) in Framing::ALL {
        let Some(found) = framing.recognize(Part::Value, &bytes, headers.as_headers()) else { continue };
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
});
