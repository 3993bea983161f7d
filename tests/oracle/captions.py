"""Records how diffusers cleans captions, and HTML5's table of named references that the Rust code reads.

    python captions.py ROOT

writes ROOT/tests/golden/captions.json, a list of {"text", "clean", "plain"} in which the cases that stand there already
are recorded again beside those below, and ROOT/crates/model/src/caption/entities.txt.
"""

import html.entities
import json
import pathlib
import sys

from diffusers import PixArtAlphaPipeline

CASES = [
    "see http://example.org/path?x=1&y=2 and HTTPS://A.B/c", "mail me@example.com or @home_2 now",
    "www.museum.edu/gallery/ painting, gov.it", "日本の city ㍿ ㈱ ䷀ 㐀 lights カタカナ ㇰ", "‐‑‒–—―−﹣－〜゠ all dashes",
    "«Bonjour» ‹ami› „low“ `tick` ´acute¨", "‘tis’ ‛old‚ ʼquote", "<p>one <b>two</b><br/>three</p><!-- gone -->",
    "<script>let x = 1;</script>after <style>p{}</style>style", "a < b <c d='e' f=\"g\"> > <", "&eacute;t&eacute; &#233; &#xe9; &copy; &hearts",
    "&notanentity; &notit; &am &amp", "10.0.0.255 and 1.2.3 and 1234.5.6.7", "scan_0001.png a.webp.b song.mp4s",
    "4х4 truck 3×5 cm 2x2", "((nested) [brackets] {and} |pipes|)", "#1 #12 #123 #1234 #12345 #tag", "1234567 12345 order 000000",
    "Worldwide free shipping today, free  shipping", "free download free now click on this click for more", "jpg images and pdfs, eps image",
    "page 7 pages 8", "ab12 abc123d 12ab34 x1y2z3 r2d2c3po", "well-known state-of-the-art hand-made", "well-known hand-made",
    "time :  noon, a :b 12:30 ", "\"'mixed'\"", "one,two.three/four,5.6", "caf\u0065\u0301 ﬂoor ﬃ ĳ ǆ Ｆｕｌｌ　ｗｉｄｔｈ ｶﾅ",
    "tab\there\x1fsep\u2028line\x85next\u200b\ufeff", "it%27s 100%25 %E2%9C%93 %zz %C3", "emoji 🌵🎨 and ½ ² Ⅷ", "-+:dash", "ends with colon:", ".x .y",
    "the <person> and <PERSON> met", "ΟΔΟΣ İstanbul ẞ", "'quote' inside 'quote'", "&lt;i&gt;x&lt;/i&gt; 1 &lt; 2", "\\n\\n two lines \\ \n\n end",
]


def main(root: pathlib.Path) -> None:
    golden = root / "tests/golden/captions.json"
    texts = [case["text"] for case in json.loads(golden.read_text())] if golden.exists() else []
    pipeline = object.__new__(PixArtAlphaPipeline)

    def say(text: str, clean: bool) -> str:
        return pipeline._text_preprocessing(text, clean_caption=clean)[0]

    cases = [{"text": text, "clean": say(text, True), "plain": say(text, False)} for text in dict.fromkeys(texts + CASES)]
    golden.write_text(json.dumps(cases, ensure_ascii=False, indent=1) + "\n")
    names = sorted(html.entities.html5.items())
    lines = (f"{name} {' '.join(f'{ord(character):x}' for character in meant)}\n" for name, meant in names)
    (root / "crates/model/src/caption/entities.txt").write_text("".join(lines))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
