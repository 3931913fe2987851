//! Decodes every frame of the corpus, whole and cut short, under Miri, which reports undefined behavior:
//! `MIRIFLAGS=-Zmiri-disable-isolation cargo +nightly miri run`.

use std::io::Read;

fn main() -> std::io::Result<()> {
    let (mut frames, mut unpacked) = (0, 0);
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../corpus/zstd");
    for entry in std::fs::read_dir(folder)? {
        let frame = std::fs::read(entry?.path())?;
        for frame in [&frame[..], &frame[..frame.len() / 2]] {
            let mut out = Vec::new();
            // Err: the frame is damaged, which is what the decoder is to say of it.
            let _ = structured_zstd::decoding::StreamingDecoder::new(frame).take(1 << 16).read_to_end(&mut out);
            (frames, unpacked) = (frames + 1, unpacked + out.len());
        }
    }
    println!("{frames} frames unpacked to {unpacked} bytes");
    Ok(())
}
