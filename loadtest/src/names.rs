//! Names that participants show: given names from many countries.

/// No name twice, and neighbours from different countries.
const NAMES: [&str; 128] = [
    "Ingrid",
    "Kwame",
    "Mei",
    "Diego",
    "Aisha",
    "Lars",
    "Priya",
    "Mateo",
    "Yuki",
    "Zanele",
    "Anna",
    "Omar",
    "Sigríður",
    "Chen",
    "Lucía",
    "Tariq",
    "Freja",
    "Kofi",
    "Haruto",
    "Camila",
    "Niels",
    "Fatima",
    "Arjun",
    "Chiara",
    "Bo",
    "Leilani",
    "Emre",
    "Joana",
    "Minh",
    "Sofie",
    "Tendai",
    "Elena",
    "Ravi",
    "Astrid",
    "Javier",
    "Nia",
    "Jonas",
    "Sakura",
    "Youssef",
    "Marta",
    "Eero",
    "Ananya",
    "Thiago",
    "Signe",
    "Amara",
    "Hugo",
    "Linh",
    "Dmytro",
    "Zainab",
    "Oskar",
    "Valentina",
    "Jin",
    "Ayşe",
    "Magnus",
    "Thandiwe",
    "Pablo",
    "Sunita",
    "Henrik",
    "Noor",
    "Luca",
    "Akua",
    "Aino",
    "Rahul",
    "Beatriz",
    "Søren",
    "Hana",
    "Malik",
    "Katarzyna",
    "Wei",
    "Ximena",
    "Gunnar",
    "Lakshmi",
    "Chidi",
    "Élodie",
    "Kenji",
    "Samira",
    "Mads",
    "Paulina",
    "Tomás",
    "Yasmin",
    "Björn",
    "Adwoa",
    "Nikhil",
    "Giulia",
    "Anders",
    "Xiu",
    "Hassan",
    "Mónica",
    "Jelena",
    "Juma",
    "Kirsten",
    "Sanjay",
    "Francesca",
    "Bao",
    "Layla",
    "Rasmus",
    "Isabela",
    "Takumi",
    "Wanjiru",
    "Matěj",
    "Deepa",
    "Vigdís",
    "Andrés",
    "Imani",
    "Pekka",
    "Soo-ah",
    "Karim",
    "Agnieszka",
    "Viggo",
    "Meera",
    "Rafael",
    "Ngozi",
    "Milan",
    "Ida",
    "Siti",
    "Nuno",
    "Birgit",
    "Jamal",
    "Teresa",
    "Hiroshi",
    "Liv",
    "Amina",
    "Stefan",
    "Pilar",
    "Mikkel",
    "Tuyet",
    "Ebba",
    "Farid",
];

/// The number that selects a participant's name and clip. Different prefixes start at different numbers,
/// so that two groups in one room seldom have the same names.
pub(crate) fn number(prefix: &str, index: usize) -> usize {
    // FNV-1a.
    let hash = prefix.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    });
    usize::try_from(hash % NAMES.len() as u64).unwrap_or(0).wrapping_add(index)
}

/// The name of participant `index` of a group. After the last name, names repeat with a number.
pub(crate) fn name(prefix: &str, index: usize) -> String {
    let name = NAMES.get(number(prefix, index) % NAMES.len()).copied().unwrap_or_default();
    match index / NAMES.len() {
        0 => name.to_owned(),
        round => format!("{name} {}", round + 1),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_participants_of_a_group_share_a_name() {
        let names: HashSet<_> = (0..1_000).map(|index| name("load", index)).collect();
        assert_eq!(names.len(), 1_000);
        assert!(names.iter().all(|name| !name.is_empty()));
    }

    #[test]
    fn groups_of_the_demo_share_no_names() {
        let first: HashSet<_> = (0..10).map(|index| name("load", index)).collect();
        assert!((0..10).all(|index| !first.contains(&name("more", index))));
    }
}
