//! Cases that once failed a property test are kept in proptest-regressions/; proptest runs them first.

use crate::support::files;
use std::path::Path;

/// proptest finds the cases by the path of the source file, and does not report cases whose source has moved.
#[test]
fn every_kept_case_belongs_to_a_property_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let kept = files(&root.join("proptest-regressions"));
    assert!(!kept.is_empty());
    for path in kept {
        let source = root.join("src").join(path.strip_prefix(root.join("proptest-regressions")).unwrap());
        let text = std::fs::read_to_string(source.with_extension("rs")).unwrap_or_default();
        assert!(text.contains("proptest!"), "{}: no property test in {}", path.display(), source.display());
    }
}
