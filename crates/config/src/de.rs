//! Reading types out of a tree of nodes, so that every error finds its place.

use std::fmt;

use serde::de::value::{StrDeserializer, StringDeserializer};
use serde::de::{
    self, DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, Unexpected,
    VariantAccess, Visitor,
};
use serde::{Deserialize, Deserializer};

use crate::decimal::DECIMAL_NEWTYPE;
use crate::error::Diagnostic;
use crate::fault::{Fault, Kind};
use crate::node::{Document, Entry, Node, SourceText, Value};
use crate::path::{LOCATION_NEWTYPE, PATH_NEWTYPE, resolve_location, resolve_path};

/// Reads a whole document.
pub(crate) fn read<'de, T: Deserialize<'de>>(document: &'de Document) -> Result<T, Diagnostic> {
    let reader = NodeReader { node: &document.root, texts: &document.texts };
    T::deserialize(reader).map_err(|fault| fault.into_diagnostic(document))
}

#[derive(Clone, Copy)]
struct NodeReader<'de> {
    node: &'de Node,
    texts: &'de [SourceText],
}

impl<'de> NodeReader<'de> {
    fn other(self, node: &'de Node) -> Self {
        Self { node, ..self }
    }

    fn base(self) -> &'de std::path::Path {
        &self.texts[self.node.origin.text].base
    }

    fn place(self, resolved: Option<String>) -> Result<String, Fault> {
        resolved.ok_or_else(|| {
            let folder = self.base().display();
            let problem = format!("the path is relative to {folder}, whose name is not UTF-8");
            Fault::new(Kind::Value(problem), None).at(&self.node.origin)
        })
    }

    fn visit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.node.value {
            Value::String(string) => visitor.visit_borrowed_str(string),
            Value::Integer(integer) => match (u64::try_from(*integer), i64::try_from(*integer)) {
                (Ok(unsigned), _) => visitor.visit_u64(unsigned),
                (_, Ok(signed)) => visitor.visit_i64(signed),
                _ => {
                    let found = Unexpected::Other("an integer of more than 64 bits");
                    Err(de::Error::invalid_type(found, &visitor))
                }
            },
            Value::Float { value, .. } => visitor.visit_f64(*value),
            Value::Boolean(boolean) => visitor.visit_bool(*boolean),
            Value::Foreign(what) => Err(de::Error::invalid_type(Unexpected::Other(what), &visitor)),
            Value::Array(nodes) => visitor.visit_seq(Elements { reader: self, nodes, next: 0 }),
            Value::Table(entries) => visitor.visit_map(Entries { reader: self, entries, next: 0 }),
        }
    }
}

impl<'de> Deserializer<'de> for NodeReader<'de> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.visit(visitor).map_err(|fault| fault.at(&self.node.origin))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let text: Option<String> = match (&self.node.value, name) {
            (Value::String(written), PATH_NEWTYPE) if !written.is_empty() => {
                Some(self.place(resolve_path(self.base(), written))?)
            }
            (Value::String(written), LOCATION_NEWTYPE) if !written.is_empty() => {
                Some(self.place(resolve_location(self.base(), written))?)
            }
            // The text, not the float: 0.1 must stay one tenth.
            (Value::Float { written, .. }, DECIMAL_NEWTYPE) => Some(written.clone()),
            _ => None,
        };
        let result = match text {
            Some(text) => {
                let inner: StringDeserializer<Fault> = text.into_deserializer();
                visitor.visit_newtype_struct(inner)
            }
            None => visitor.visit_newtype_struct(self),
        };
        result.map_err(|fault| fault.at(&self.node.origin))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let result = match &self.node.value {
            Value::String(name) => visitor.visit_enum(UnitVariant(name)),
            _ => {
                let quoted: Vec<String> = variants.iter().map(|text| format!("{text:?}")).collect();
                self.visit(ExpectOneOf(quoted.join(" or "))).map(|never| match never {})
            }
        };
        result.map_err(|fault| fault.at(&self.node.origin))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

struct Elements<'de> {
    reader: NodeReader<'de>,
    nodes: &'de [Node],
    next: usize,
}

impl<'de> SeqAccess<'de> for Elements<'de> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        let Some(node) = self.nodes.get(self.next) else {
            return Ok(None);
        };
        let index = self.next;
        self.next += 1;
        let element = seed.deserialize(self.reader.other(node));
        element.map(Some).map_err(|fault| fault.at(&node.origin).within(index))
    }
}

struct Entries<'de> {
    reader: NodeReader<'de>,
    entries: &'de [Entry],
    next: usize,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        let Some(entry) = self.entries.get(self.next) else {
            return Ok(None);
        };
        let key: StrDeserializer<'_, Fault> = entry.key.as_str().into_deserializer();
        seed.deserialize(key).map(Some).map_err(|fault| fault.at(&entry.key_origin))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let entry = &self.entries[self.next];
        self.next += 1;
        let value = seed.deserialize(self.reader.other(&entry.node));
        value.map_err(|fault| fault.at(&entry.node.origin).within(&entry.key))
    }
}

struct UnitVariant<'de>(&'de str);

impl<'de> EnumAccess<'de> for UnitVariant<'de> {
    type Error = Fault;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Fault> {
        let name: StrDeserializer<'_, Fault> = self.0.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> VariantAccess<'de> for UnitVariant<'de> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _seed: T) -> Result<T::Value, Fault> {
        unreachable!("the language has only enums of words")
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, _visitor: V) -> Result<V::Value, Fault> {
        unreachable!("the language has only enums of words")
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Fault> {
        unreachable!("the language has only enums of words")
    }
}

/// Accepts nothing, and says so with the words that would have been right.
struct ExpectOneOf(String);

enum Never {}

impl Visitor<'_> for ExpectOneOf {
    type Value = Never;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
