"""Captions of shots in the words that people use in prompts, and the vocabulary of which a tokenizer is made."""

from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from controlnext.starter.scenes.character import Character
from controlnext.starter.scenes.palette import CLOTHES, HAIR, SAID, WALLS
from controlnext.starter.scenes.shot import Item, Shot
from controlnext.starter.scenes.things import FURS

MAX_TOKENS = 64

_KIND = MappingProxyType(
    {
        "woman": ("woman", "lady", "female", "girl"),
        "man": ("man", "guy", "businessman", "gentleman", "male", "boy"),
        "girl": ("girl", "little girl", "kid", "child", "young girl"),
        "boy": ("boy", "little boy", "kid", "toddler", "child", "young boy"),
    }
)
_SHOT = MappingProxyType(
    {
        "head": ("portrait of", "close-up of", "close up portrait of", "headshot of", "face of", "closeup photo of"),
        "bust": ("portrait of", "photo of", "bust of", "upper body photo of", "a picture of"),
        "half": ("photo of", "half body photo of", "picture of", "upper body of", "medium shot of"),
        "whole": ("photo of", "full body photo of", "picture of", "full length photo of", "wide shot of"),
    }
)
_TOPS = MappingProxyType(
    {
        "t-shirt": ("t-shirt", "tshirt", "tee", "shirt", "top"),
        "shirt": ("shirt", "blouse", "top", "long sleeve shirt"),
        "sweater": ("sweater", "hoodie", "pullover", "turtleneck", "jumper"),
        "jacket": ("jacket", "suit", "blazer", "cardigan", "leather jacket"),
        "coat": ("coat", "long coat", "trench coat", "robe", "overcoat"),
        "dress": ("dress", "gown", "long dress"),
        "tank top": ("tank top", "vest", "sleeveless top"),
    }
)
_BOTTOMS = MappingProxyType(
    {"trousers": ("trousers", "pants", "jeans", "denim jeans", "leggings"), "shorts": ("shorts",), "skirt": ("skirt",)}
)
_HAIR = MappingProxyType(
    {
        "short": ("short {} hair", "{} hair", "short hair"),
        "long": ("long {} hair", "{} hair", "long straight {} hair", "long hair"),
        "bob": ("a {} bob", "{} bob haircut", "shoulder length {} hair", "{} hair"),
        "curly": ("curly {} hair", "{} curly hair", "{} curls", "wavy {} hair", "curly hair"),
        "ponytail": ("a {} ponytail", "{} hair in a ponytail", "{} hair", "ponytail"),
        "bun": ("a {} bun", "{} hair in a bun", "{} hair"),
        "spiky": ("spiky {} hair", "messy {} hair", "{} hair"),
        "pigtails": ("{} pigtails", "{} hair in pigtails", "{} braids", "{} hair"),
        "afro": ("a {} afro", "big {} hair", "{} afro hair"),
    }
)
_HATS = MappingProxyType(
    {
        "cap": ("cap", "baseball cap", "hat"),
        "beanie": ("beanie", "knit hat", "hat"),
        "sun hat": ("sun hat", "straw hat", "hat"),
        "headscarf": ("headscarf", "hijab", "scarf"),
    }
)
_EXPRESSIONS = MappingProxyType(
    {
        "smiling": ("smiling", "happy", "smiles", "with a smile", "smiling at the camera", "cheerful"),
        "laughing": ("laughing", "happy", "laughs", "with a big smile", "joyful"),
        "sad": ("sad", "crying", "with a sad face", "unhappy"),
        "surprised": ("surprised", "shocked", "with open mouth", "amazed"),
        "angry": ("angry", "serious", "mad", "frowning"),
        "neutral": ("with a calm expression", "serious", "looking at the camera", "with a neutral expression"),
    }
)
_ACTIONS = MappingProxyType(
    {
        "standing": ("standing", "posing", "stands"),
        "waving": ("waving", "waving hello", "raising a hand", "waves"),
        "walking": ("walking", "strolling", "walks"),
        "running": ("running", "jogging", "runs"),
        "dancing": ("dancing", "dances"),
        "cheering": ("cheering", "with arms raised", "celebrating"),
        "pointing": ("pointing", "points"),
        "kicking": ("kicking", "playing football", "doing martial arts", "kicks"),
        "jumping": ("jumping", "leaping", "jumps"),
        "gesturing": ("gesturing", "talking"),
        "sitting": ("sitting", "seated", "sits"),
        "posing": ("posing", "with hands on hips", "standing"),
        "thinking": ("thinking", "with hand on chin"),
        "crossing arms": ("with crossed arms", "with arms crossed", "standing"),
    }
)
_PLACES = MappingProxyType(
    {
        "studio": (
            "in front of a {} wall",
            "on a {} background",
            "in a studio",
            "in a photo studio with {} background",
            "studio portrait",
        ),
        "room": ("in a room", "in a living room", "at home", "indoors", "in a house", "in an office", "in a {} room"),
        "street": (
            "on a street",
            "in the city",
            "in a city street",
            "on the road",
            "outside a building",
            "downtown",
            "in town",
        ),
        "beach": ("on the beach", "by the sea", "at the ocean", "on the sand", "at the seaside", "near the water"),
        "park": ("in a park", "on the grass", "in a garden", "in a meadow", "outdoors", "in a field", "in nature"),
        "forest": ("in a forest", "in the woods", "among trees", "in nature"),
        "snow": ("in the snow", "in winter", "on a snowy field"),
        "mountains": ("in the mountains", "in front of mountains", "on a hill", "in a landscape"),
    }
)
_TIMES = MappingProxyType(
    {
        "day": ("at day", "in daylight", "on a sunny day", "under a blue sky", "in sunlight"),
        "sunset": ("at sunset", "in the evening", "at golden hour", "in warm light", "under an orange sky"),
        "night": ("at night", "by night", "under a dark sky", "in the dark", "at midnight"),
        "dawn": ("at dawn", "in the morning", "under a pink sky", "at sunrise", "in soft light"),
    }
)
_WEATHERS = MappingProxyType(
    {
        "clear": ("",),
        "clouds": ("under a cloudy sky", "with clouds", "cloudy"),
        "rain": ("in the rain", "on a rainy day", "raining"),
        "snowfall": ("in falling snow", "snowing", "while it snows"),
        "fog": ("in the fog", "on a foggy day", "in mist"),
    }
)
_ITEMS = MappingProxyType(
    {
        "tree": ("a tree", "trees"), "pine": ("a pine", "a pine tree", "a christmas tree"), "palm": ("a palm tree", "palm trees", "a palm"),
        "bush": ("a bush", "bushes", "plants"), "flowers": ("{} flowers", "flowers", "a flower bed"), "house": ("a {} house", "a house", "a building"),
        "ball": ("a {} ball", "a ball"), "crate": ("a {} crate", "a {} box", "a box"), "car": ("a {} car", "a car", "a parked {} car"),
        "bus": ("a {} bus", "a bus"), "bicycle": ("a {} bicycle", "a bike", "a bicycle"), "boat": ("a {} boat", "a boat", "a ship"),
        "chair": ("a {} chair", "a chair"), "sofa": ("a {} sofa", "a couch", "a sofa"), "table": ("a table", "a desk", "a wooden table"),
        "lamp": ("a lamp", "a {} lamp", "a light"), "plant": ("a plant", "a potted plant"), "bookshelf": ("a bookshelf", "books"),
        "dog": ("a {} dog", "a dog", "a puppy"), "cat": ("a {} cat", "a cat", "a kitten"), "bird": ("a {} bird", "a bird"), "bench": ("a bench", "a wooden bench"),
    }
)  # fmt: skip
_HELD = MappingProxyType(
    {
        "cup": ("a cup", "a cup of coffee", "a drink", "a glass"),
        "phone": ("a phone", "a smartphone"),
        "flower": ("a {} flower", "a flower"),
        "book": ("a {} book", "a book"),
        "ball": ("a ball",),
        "umbrella": ("a {} umbrella", "an umbrella"),
        "guitar": ("a guitar",),
    }
)
_SKIN = MappingProxyType(
    {
        "pale": ("pale", "with pale skin", "caucasian"),
        "light": ("",),
        "tan": ("with tanned skin",),
        "brown": ("with brown skin", "african american"),
        "dark": ("with dark skin", "black", "african"),
    }
)
_GROUPS = MappingProxyType(
    {
        2: ("two people", "a couple", "two friends"),
        3: ("three people", "a group of people", "three friends", "a family"),
    }
)
# Phrases that people add to prompts and that name nothing visible.
_PRAISE = (
    "high quality",
    "detailed",
    "best quality",
    "4k",
    "8k",
    "realistic",
    "cinematic",
    "beautiful",
    "professional photo",
    "masterpiece",
    "sharp focus",
    "highly detailed",
    "photorealistic",
    "3d render",
    "cartoon",
    "illustration",
    "digital art",
    "cute",
    "beautiful lighting",
    "natural light",
    "bokeh",
    "dslr",
    "hd",
    "award winning",
    "studio lighting",
    "high resolution",
    "ultra detailed",
    "anime style",
    "painting",
    "character design",
)
_OTHER_WORDS = (
    "the of at by is are her his their its it who that this from to for into up down over very young old adult teenager elderly person people someone somebody human "
    "wearing dressed clothes outfit with without and or no not looking camera left right side front back view behind profile towards away hand hands arm arms leg legs eyes eye "
    "face head nose mouth ears body full half upper lower background foreground blurred bright dark light warm cold sun sunny sky cloud blue-eyed style photo image picture portrait "
    "photograph photography shot scene pose fashion model casual business formal summer winter spring autumn fall day night morning evening beautiful handsome pretty attractive asian "
    "european indian latin he she him as through can be same men women kids children clear vivid detail clean modern viewer directly middle-aged aged middle alone depth shallow holds wear wears smiles texture confident gentle kind cozy stylish "
    "distance seen faces colors lake cafe oil fantasy elegant simple plain wall floor ground grass window door painting large small big tall short long wide two three four one group woman's man's"
)


@dataclass(frozen=True)
class Sight:
    """What is visible of a shot: pixels of each part of each person, pixels of each item, and pixels in total."""

    people: tuple[dict[str, int], ...]
    items: tuple[int, ...]
    pixels: int

    def sees(self, person: int, part: str, share: float = 0.004) -> bool:
        """Return whether a part of a person covers at least `share` of the picture."""
        return self.people[person].get(part, 0) >= share * self.pixels


def _article(phrase: str) -> str:
    return f"an {phrase}" if phrase[0] in "aeiou" else f"a {phrase}"


class _Teller:
    """Chooses words; without a generator always the first, and leaves nothing out."""

    def __init__(self, rng: np.random.Generator | None) -> None:
        self.rng = rng

    def say(self, ways: tuple[str, ...], first: float = 0.45) -> str:
        if self.rng is None or self.rng.random() < first:
            return ways[0]
        return ways[int(self.rng.integers(len(ways)))]

    def keep(self, share: float) -> bool:
        return self.rng is None or self.rng.random() < share

    def colour(self, name: str) -> str:
        return self.say((name, *SAID.get(name, ())), 0.75)

    def person(self, who: Character, index: int, sight: Sight) -> str:
        """Describe one person as far as they are seen."""
        sees = lambda part, share=0.004: sight.sees(index, part, share)  # noqa: E731
        subject = self.say(_KIND[who.kind], 0.6) if self.keep(0.93) else "person"
        words = [_article(subject) if self.rng is not None else f"a {subject}"]
        if self.rng is not None and self.rng.random() < 0.12:
            words[0] = f"a {self.say(('young', 'beautiful', 'handsome', 'cute', 'pretty'), 0.3)} {subject}"
        skin = self.say(_SKIN[who.skin], 0.5)
        if skin.startswith("with") and self.keep(0.25) and self.rng is not None:
            words.append(skin)
        words += self._head(who, sees)
        worn = self._worn(who, sees)
        if worn:
            words.append(f"{self.say(('in', 'wearing', 'dressed in', 'wears'), 0.5)} {' and '.join(worn)}")
        if sees("face", 0.012) and (who.expression != "neutral" or self.rng is not None) and self.keep(0.6):
            words.append(self.say(_EXPRESSIONS[who.expression], 0.6))
        arms = sees("limb", 0.004) or sees("shirt", 0.06) or sees("coat", 0.06)
        if (sees("trousers") or arms) and self.keep(0.65):
            words.append(self.say(_ACTIONS[who.posture.action], 0.65))
        if who.held != "nothing" and sees("thing", 0.002) and self.keep(0.85):
            words.append(self.say(("holding", "holds", "with")) + " " + self.say(_HELD[who.held]).format(who.second))
        return " ".join(words)

    def _head(self, who: Character, sees: object) -> list[str]:
        said = []
        if who.hair_style == "bald":
            said += ["a bald head"] if sees("face") and self.keep(0.6) else []
        elif sees("hair", 0.002) and self.keep(0.75):
            said.append(self.say(_HAIR[who.hair_style], 0.55).format(self.colour(who.hair)))
        if who.beard and sees("face", 0.004) and self.keep(0.75):
            said.append(f"a {who.beard}" if who.beard != "stubble" else "a stubble beard")
        if who.glasses and sees("face", 0.004) and self.keep(0.75):
            said.append(who.glasses)
        if sees("face", 0.08) and self.keep(0.35) and who.glasses != "sunglasses" and self.rng is not None:
            said.append(f"{who.eyes} eyes")
        if who.hat and sees("hat", 0.002) and self.keep(0.85):
            said.append(_article(f"{self.colour(who.hat_colour)} {self.say(_HATS[who.hat])}"))
        return [f"with {' and '.join(said)}"] if said else []

    def _worn(self, who: Character, sees: object) -> list[str]:
        worn = []
        pattern = {"stripes": "striped ", "dots": "dotted ", "checks": "checked "}.get(who.top_pattern, "")
        if sees("coat" if who.top in ("jacket", "coat") else "shirt") and self.keep(0.93):
            pattern = pattern if self.keep(0.7) else ""
            worn.append(_article(f"{self.colour(who.top_colour)} {pattern}{self.say(_TOPS[who.top])}"))
        if not who.wears_dress and sees("trousers") and self.keep(0.9):
            bottom = f"{self.colour(who.bottom_colour)} {self.say(_BOTTOMS[who.bottom])}"
            worn.append(_article(bottom) if who.bottom == "skirt" else bottom)
        if self.rng is not None and sees("shoes", 0.003) and self.keep(0.2):
            worn.append(f"{self.colour(who.shoes)} shoes")
        return worn

    def item(self, item: Item) -> str:
        return self.say(_ITEMS[item.name]).format(item.colour).replace("a orange", "an orange")


def describe(shot: Shot, sight: Sight, rng: np.random.Generator | None = None) -> str:
    """Describe a shot in words.

    Args:
        shot: What there is.
        sight: What of it is seen; what cannot be seen is not named.
        rng: Varies the wording and leaves things out, as people do. None gives the canonical caption.

    Returns:
        One line, e.g. "a woman with long brown hair in a red dress smiling on the beach at sunset".
    """
    teller = _Teller(rng)
    seen = [i for i, parts in enumerate(sight.people) if sum(parts.values()) >= 0.012 * sight.pixels]
    seen.sort(key=lambda i: -sum(sight.people[i].values()))
    if len(seen) > 1 and rng is not None and rng.random() < 0.25:
        words = [teller.say(_GROUPS[len(seen)])]
    else:
        words = [" and ".join(teller.person(shot.people[i], i, sight) for i in seen[: 2 if rng is None else 3])]
    if not words[0]:
        words = ["nobody"]
    if rng is not None and rng.random() < 0.35:
        words.insert(0, teller.say(_SHOT[shot.framing], 0.3))
    items = [item for item, n in zip(shot.items, sight.items, strict=True) if n >= 0.008 * sight.pixels]
    for item in items[:2]:
        if teller.keep(0.75):
            words.append(f"{teller.say(('next to', 'with', 'near', 'beside', 'and'), 0.5)} {teller.item(item)}")
    if teller.keep(0.85):
        words.append(teller.say(_PLACES[shot.place], 0.4).format(shot.wall))
    if (not shot.indoors or shot.time == "night") and teller.keep(0.8):
        words.append(teller.say(_TIMES[shot.time], 0.45))
    if shot.weather != "clear" and teller.keep(0.7):
        words.append(teller.say(_WEATHERS[shot.weather]))
    text = " ".join(words)
    if rng is not None and rng.random() < 0.25:
        count = int(rng.integers(1, 4))
        text += "".join(", " + _PRAISE[int(i)] for i in rng.integers(0, len(_PRAISE), count))
    if rng is not None and rng.random() < 0.1:  # words that mean nothing here must do nothing, too
        others = _OTHER_WORDS.split()
        text += " " + " ".join(others[int(i)] for i in rng.integers(0, len(others), int(rng.integers(1, 4))))
    return text


def vocabulary() -> list[str]:
    """Return every word a caption can hold and common words of prompts about people, sorted."""
    tables = (
        _KIND,
        _SHOT,
        _TOPS,
        _BOTTOMS,
        _HAIR,
        _HATS,
        _EXPRESSIONS,
        _ACTIONS,
        _PLACES,
        _TIMES,
        _WEATHERS,
        _ITEMS,
        _HELD,
        _SKIN,
        SAID,
    )
    phrases = [way for table in tables for ways in table.values() for way in ways]
    phrases += [way for ways in _GROUPS.values() for way in ways] + [
        *_PRAISE,
        _OTHER_WORDS,
        *CLOTHES,
        *HAIR,
        *WALLS,
        *FURS,
    ]
    phrases += [
        "a an with and in wearing dressed holding nobody person next to near beside striped dotted checked shoes eyes bald head beard stubble moustache glasses sunglasses young"
    ]
    words = {word.strip(",.") for phrase in phrases for word in phrase.replace("{}", " ").split()}
    return sorted(word for word in words if word)
