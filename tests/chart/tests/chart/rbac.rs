//! The operator's rights, by verb (rule O20). A reviewer reads the golden file: a wider right is a line in its diff.

use crate::matrix::NAMESPACED;
use raftkv_chart_tests::grants::grants;
use raftkv_chart_tests::helm::render;
use raftkv_chart_tests::{golden, root};

#[test]
fn the_rights_are_those_of_the_golden_list() {
    let sets: &[(&str, &[&str])] = &[
        ("As installed by default", &[]),
        ("Namespaced, without cluster rights", NAMESPACED),
        ("Namespaced, with cluster reads", &[r#"watchNamespaces=["team-a"]"#]),
    ];
    let mut text = "# Every right that the chart grants. A new line here needs its reason in the commit.\n".to_string();
    for (set, values) in sets {
        text.push_str(&format!("\n## {set}\n\n{}", grants(&render(values))));
    }
    golden::compare(&root().join("tests/chart/golden/rbac.txt"), &text);
}

#[test]
fn a_namespaced_install_without_cluster_reads_has_nothing_outside_namespaces() {
    let rendered = render(NAMESPACED);
    let outside: Vec<_> = rendered.all().iter().filter(|object| object.namespace().is_empty()).collect();
    assert!(outside.is_empty(), "{outside:?}");
}

#[test]
fn each_watched_namespace_has_a_role_and_its_binding() {
    let rendered = render(&[r#"watchNamespaces=["team-a","team-b","raftkv-system"]"#]);
    for kind in ["Role", "RoleBinding"] {
        let mut places: Vec<&str> = rendered.of(kind).iter().map(|object| object.namespace()).collect();
        places.sort_unstable();
        assert_eq!(places, ["raftkv-system", "raftkv-system", "team-a", "team-b"], "{kind}: one more for Leases");
    }
}

#[test]
fn each_binding_is_to_the_account_of_the_pod() {
    let sets: [&[&str]; 3] =
        [&[], &[r#"serviceAccount.name="mine""#], &[r#"serviceAccount={"create":false,"name":"theirs"}"#]];
    for values in sets {
        let rendered = render(values);
        let account = rendered.only("Deployment").text("/spec/template/spec/serviceAccountName").to_string();
        for binding in ["RoleBinding", "ClusterRoleBinding"].iter().flat_map(|kind| rendered.of(kind)) {
            assert_eq!(binding.text("/subjects/0/name"), account, "{values:?}: {binding}");
            assert_eq!(binding.text("/subjects/0/namespace"), "raftkv-system", "{values:?}: {binding}");
        }
    }
}

#[test]
fn no_rule_has_a_wildcard() {
    for (set, values) in crate::matrix::SETS {
        assert!(!grants(&render(values)).contains('*'), "{set}");
    }
}

#[test]
fn without_rbac_create_nobody_is_granted_anything() {
    assert_eq!(grants(&render(&["rbac.create=false", "rbac.aggregate=true"])), "");
}

#[test]
fn users_get_their_roles_cluster_wide_by_default_and_namespaced_on_request() {
    let aggregated = |values: &[&str]| grants(&render(values)).contains("to everybody with view");
    assert!(aggregated(&[]));
    assert!(!aggregated(&["rbac.aggregate=false"]));
    assert!(!aggregated(NAMESPACED));
    assert!(aggregated(&[NAMESPACED, &["rbac.aggregate=true"]].concat()));
}
