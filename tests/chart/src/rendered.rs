//! The objects that helm rendered: they are found by kind and name, and read by JSON pointer. PURE.

use serde_json::Value;
use std::fmt;

/// One Kubernetes object.
#[derive(Clone, Debug, PartialEq)]
pub struct Object(Value);

/// Everything that one run of helm rendered, in helm's order.
#[derive(Clone, Debug, PartialEq)]
pub struct Rendered {
    objects: Vec<Object>,
}

impl Rendered {
    /// # Panics
    /// When the text is no stream of YAML documents.
    pub fn parse(text: &str) -> Self {
        let documents: Vec<Value> =
            serde_yaml::from_multiple(text).unwrap_or_else(|error| panic!("helm rendered no YAML: {error}\n{text}"));
        Rendered { objects: documents.into_iter().map(Object).collect() }
    }

    /// All objects.
    pub fn all(&self) -> &[Object] {
        &self.objects
    }

    /// The objects of one kind.
    pub fn of(&self, kind: &str) -> Vec<&Object> {
        self.objects.iter().filter(|object| object.kind() == kind).collect()
    }

    /// The only object of this kind; objects for `helm test` count too.
    ///
    /// # Panics
    /// When there is none, or more than one.
    pub fn only(&self, kind: &str) -> &Object {
        match self.of(kind)[..] {
            [one] => one,
            ref others => panic!("there are {} objects of kind {kind}, not one", others.len()),
        }
    }
}

impl Object {
    /// Its kind.
    pub fn kind(&self) -> &str {
        self.text("/kind")
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.text("/metadata/name")
    }

    /// Its namespace; empty if it has none.
    pub fn namespace(&self) -> &str {
        self.text("/metadata/namespace")
    }

    /// The value at a JSON pointer; null where there is none.
    pub fn at(&self, pointer: &str) -> &Value {
        self.0.pointer(pointer).unwrap_or(&Value::Null)
    }

    /// The string at a JSON pointer; empty where there is none.
    pub fn text(&self, pointer: &str) -> &str {
        self.at(pointer).as_str().unwrap_or_default()
    }

    /// The list at a JSON pointer; empty where there is none.
    pub fn list(&self, pointer: &str) -> &[Value] {
        self.at(pointer).as_array().map(Vec::as_slice).unwrap_or_default()
    }

    /// The whole object.
    pub fn value(&self) -> &Value {
        &self.0
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind(), self.namespace(), self.name())
    }
}
