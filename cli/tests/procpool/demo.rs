//! `procpool demo`

use crate::support::run;

#[test]
fn the_demo_shows_what_it_promises() {
    let outcome = run(&["demo"], "").expect(0);
    let text = &outcome.stdout;
    assert_eq!(outcome.stderr, "");
    for id in 1..=10 {
        assert_eq!(text.matches(&format!("Analyzing Match #{id}...\n")).count(), 1, "{text}");
    }
    let results: Vec<String> = (1..=10).map(|id| format!("  Result for Match #{id}: Analysis Clear")).collect();
    assert!(text.contains(&results.join("\n")), "{text}");
    for promise in ["times as fast", "power(2, 10) = 1024", "item 3 slept 100 ms", "✓ /proc has none of them"] {
        assert!(text.contains(promise), "{promise} is not in {text}");
    }
    assert!(!text.contains('✗') && !text.contains('\x1b'), "{text}");
}
