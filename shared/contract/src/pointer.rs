//! JSON pointers (RFC 6901): places in documents and in rows.

/// A name as one segment of a pointer.
pub fn segment(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// The name that a segment stands for.
pub fn name(segment: &str) -> String {
    segment.replace("~1", "/").replace("~0", "~")
}

/// The place of a property.
pub fn child(pointer: &str, name: &str) -> String {
    format!("{pointer}/{}", segment(name))
}

/// The names on the way to a place.
pub fn names(pointer: &str) -> impl Iterator<Item = String> + '_ {
    pointer.split('/').skip(1).map(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_a_place_that_leads_back_to_it() {
        let odd = ["a", "", "a/b", "~", "~1", "~0~1/", "é"];
        let place = odd.iter().fold(String::new(), |place, name| child(&place, name));
        assert_eq!(names(&place).collect::<Vec<_>>(), odd);
        assert_eq!(names("").count(), 0);
    }
}
