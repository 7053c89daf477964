"""How many tokens a text has, without a tokenizer: an estimate with bounds, in microseconds.

A text is cut into runs the way byte-pair tokenizers cut it (a word with its leading space, a stretch of
digits, of Hangul, of punctuation), and each shape of run has a calibrated price. Prices were fitted to counts
of real tokenizers; ``benchmarks/token_estimate.py`` reproduces them and the error table in
``docs/concepts/token-estimate.md``.

The cutting is here and, compiled, in ``_text.c`` (docs/decisions/0012). Both come to the same prices.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import cache, lru_cache
from itertools import chain, pairwise
from math import ceil, floor, sqrt
from types import ModuleType
from typing import Literal

from msgspec import Struct

from llm_router.compiled import TEXT

TokenizerFamily = Literal["large", "small"]
"""``large``: vocabularies of 100k tokens and more (Llama 3, Qwen 2.5, Gemma, Command R, gpt-oss, DeepSeek).
``small``: about 32k tokens (Llama 2, Mistral 7B, Mixtral, Solar, LLaVA, Nous-Hermes 2)."""

SAMPLED_ABOVE_CHARS = 20_480
"""Texts longer than this are estimated from evenly spaced windows, so that time stays bounded."""

_WINDOWS = 40
_WINDOW_CHARS = 448
_SIGMAS = 2.6  # 99 % of a normal distribution

_COMPILED = TEXT.chosen()


class TokenEstimate(Struct, frozen=True):
    """Tokens of a text, special tokens and chat template not counted.

    ``tokens`` is the mean over the family's tokenizers. Each of ``low`` and ``high`` held for every tokenizer
    of the family on at least 99 % of the reference texts of 20 tokens and more; plan memory with ``high``.
    """

    tokens: int
    low: int
    high: int


def estimate_tokens(text: str, family: TokenizerFamily = "large") -> TokenEstimate:
    """Estimate for ``text`` as a tokenizer of ``family`` would count it; never raises on any string.

    Linear in the length up to ``SAMPLED_ABOVE_CHARS`` characters, constant beyond: longer texts are judged by
    evenly spaced windows, and the bounds widen by what the windows disagree.
    """
    return estimates(text)[family]


def estimates(text: str, *, in_python: bool = False) -> dict[TokenizerFamily, TokenEstimate]:
    """As ``estimate_tokens`` for every family, in one look at the text. ``in_python`` leaves aside what was
    compiled."""
    size = len(text)
    if not size:
        return dict.fromkeys(_COLUMN, TokenEstimate(0, 0, 0))
    if size <= SAMPLED_ABOVE_CHARS:
        if in_python or _COMPILED is None:
            part = _part_in_python(text)
            return {family: _bounded(*_credited(part, family), family) for family in _COLUMN}
        large, small = _COMPILED.estimates(text, *_tables(_COMPILED))
        return {"large": TokenEstimate(*large), "small": TokenEstimate(*small)}
    step = (size - _WINDOW_CHARS) / (_WINDOWS - 1)
    starts = [round(index * step) for index in range(_WINDOWS)]
    parts = [_part(text[start : start + _WINDOW_CHARS], in_python) for start in starts]
    return {family: _sampled(parts, size, family) for family in _COLUMN}


def _sampled(parts: Iterable[_Part], size: int, family: TokenizerFamily) -> TokenEstimate:
    prices = [_credited(part, family) for part in parts]
    scale = size / (_WINDOWS * _WINDOW_CHARS)
    tokens, low, high = (scale * sum(column) for column in zip(*prices, strict=True))
    # Windows stand in the order of the text, so neighbours that differ are what sampling can have missed.
    steps = sum((after[0] - before[0]) ** 2 for before, after in pairwise(prices)) / (2 * (_WINDOWS - 1))
    return _bounded(tokens, low, high, family, _SIGMAS * scale * sqrt(steps * _WINDOWS))


def _bounded(
    tokens: float, low: float, high: float, family: TokenizerFamily, sampling_error: float = 0.0
) -> TokenEstimate:
    """Bounds leave room for a text that is unlike the reference (a share) and for chance (a root)."""
    low_chance, high_chance = CHANCE[family]
    middle = max(1, round(tokens))
    lower = floor(low * (1 - UNLIKE) - low_chance * sqrt(low) - sampling_error)
    upper = ceil(high * (1 + UNLIKE) + high_chance * sqrt(high) + EXTRA_TOKENS + sampling_error)
    return TokenEstimate(middle, max(1, min(middle, lower)), max(middle, upper))


def priced(text: str, family: TokenizerFamily, *, in_python: bool = False) -> tuple[float, float, float]:
    """Mean, lowest and highest price of a text, before the bounds are widened."""
    return _credited(_part(text, in_python), family)


_Part = tuple[int, ...]
"""The price of a text in each column of ``PRICES``, in millionths of a token, and how often ``ENGLISH_PAIRS``
occur in it."""


def _part(text: str, in_python: bool) -> _Part:
    if _COMPILED is None or in_python:
        return _part_in_python(text)
    part: _Part = _COMPILED.priced(text, *_tables(_COMPILED)[:2])
    return part


def _part_in_python(text: str) -> _Part:
    """Cut at its spaces: no run goes on behind one, so every piece has a price of its own, worked out once.

    Of several spaces the last one belongs to the piece behind it, the others are an indentation.
    """
    shape, packed = text.translate(_classes()), 0
    if "  " in shape:
        packed = sum(map(_INDENTATIONS.__getitem__, _BLANKS.findall(shape)))
        shape = _BLANKS.sub(" ", shape)
    first, *spaced = shape.split(" ")
    packed += _PIECES[first] + sum(map(_SPACED_PIECES.__getitem__, spaced))
    columns = (packed >> place & _COLUMN_MASK for place in _COLUMN_PLACES)
    return *columns, sum(map(text.count, ENGLISH_PAIRS))


def _credited(part: _Part, family: TokenizerFamily) -> tuple[float, float, float]:
    column, credit, english = _COLUMN[family], PRICES["english_credit"], part[-1]
    tokens, low, high = part[column] / _UNITS, part[column + 1] / _UNITS, part[column + 2] / _UNITS
    # Nothing but "thththth" would earn more credit than it cost: English prose stays well below the cap.
    tokens -= min(credit[column] * english, 0.3 * tokens)
    low -= min(credit[column + 1] * english, 0.3 * low)
    high -= min(credit[column + 2] * english, 0.3 * high)
    return tokens, low, high


# ----------------------------------------------------------------------------------------------------
# Character classes: one letter each, so that a run of text becomes a short shape such as " Aaaaa" or "000".

_FREQUENT_HANGUL = (
    "가각간감갑값강같개객거건검것게겠격결경계고공과관교구국군권규그근글금급기길김까끝나난날남내너넣네년노누는"
    "능니다단달담답당대더데도독돌동되된될됨됩두드든들등디딩따때또라람랑래랜램량러레려력련렬령로록롤료루류르른"
    "를름리릭림립링마막만말매메며면명모목못무문물므미민밀및바박반받발방배백버번법벤벨변별보복본부분불브블비사"
    "삭산상새색생서석선설성세션소속송수순숫스습승시식신실심십쓰아안않알암았애액야약양어언업없었에엔여역연열였"
    "영예오온올옵와완외요용우운울워원월위유으은을음의이인일읽임입있자작잘장재저적전점접정제젝져조존종좋좌주준"
    "줄중증지직진질집짜째쪽차참창찾채처천첫청체초총최추출취치카커컨코크큰클키타태택터턴테템토통트특튼티팅파판"
    "패퍼페편평포표품프플피필하학한할함합항해했행향현형호화확환활회효후히"
)
_FREQUENT_HAN = (
    "一丁七万三上下不与专且世业东丝丢两严並个中丰串临丶丹为主丽举久么义之乌乎乐乘九也习乡书买乱了予争事二于云"
    "互五井亚些亞亡交产享京亮亲人什仁仅今介仍从仓他付仙代令以仪们件价任份企伊休众优会伝传伤似但位低住佐体何余"
    "佛作你佳使來例供依侧便保信修個倍們倒候借値值假偏做停健備储傳像優儿允元兄充先光克免党入內全八公六兰共关兴"
    "兵其具典养兼内册再写军农冰冲决况冷准减几処出击函刀分切划列刘则刚创初删判別利刪别到制刷券刻則削前剑剩剪副"
    "割力办功加务动助励効势勇動務勝包化北匹区医區十千升午半华协单卖南博占卡卫印即却卷厂历压原去县参參又叉及友"
    "双反发取受变口古句另只叫可台史右叶号司吃各合吉同名后向吗君否吧含听启吴告员呢周味呼命和品哈响員哥哪唐售唯"
    "商啊問啟善喜單嘉器四回因团园围固国图圆圈國園圖土圣在地场址均坐块垂型城域執基堂堆報場塊塔塞填境增壁士声处"
    "备変复夏外多夜够夢大天太夫央失头夹奇奈奖套奥女她好如始姓委威媒子字存孙孝季学孩學宁它宇守安宋完宏宗官定宜"
    "宝实実审客宣室宫宮害家容宽宿寄密富察實寶寸对寺寻导対封射将將尊對小少尔尚尝就尺尼尽尾局层居屋屏展属山岗岛"
    "岡岩峰島崎嵌川州工左巨差己已巴币市布师希帐帖帝带帧師帮常幅幕干平年并幸广庄庆序库应底店府度座庫庭康延建开"
    "异弃式引弟张張強弹强归当录形彩影往征径待很律後徐得從御復循微德心必志忘応忠快念忽态怎思急性怪总恋恢恩息您"
    "情惠想意愛感態慢應戏成我或战戦截戰戳戶户房所手才打托扣执扩扫批找承技把投折抛択护报抽担拉拍拒拖招拟拥拦择"
    "括拳拷拼拿持挂指按振损换据捷授掉排探接控推描提插換搜摄摩播擇操支收改攻放政故效敏敗教散数整數文斗料断斯新"
    "方於施旅旋族旗无既日旧早时昌明易星映春昭是显時晚普景智暂暗暴曲更書曹曾替最會月有服望朝期木未末本术朱机杀"
    "杂权李材村束条来杨東松板极构析林枚果架某染查标栈栏树校株样核根格桃框案档桥梅梦检棋森検業楼楽概構様樂標模"
    "横橋機檔權次欢款歌止正此步武死殊残段殿毁母每比毕毛毫氏民气気水永求汇汉江池決沒沙没河油治泉法波注泰洋洛洞"
    "津洲活派流测济浏浪浮海消深混添清渡温測港渲游湖源準溪滑滚满滤演激灣火灯灰灵炮点為热無焦然照爆爱父爾片版牌"
    "牙牛物特状狂独猫獲率玉王玩环现珠班現球理瑞甘生產用田由甲申电男町画界留略番當病発登發白百的皇皮益监盖盘盟"
    "目直相省看県真眼着知矩短石码研破础硬确碎確碼磁示礼社祖神票禁福离秀私秋种科秒秘积称移程稍種稱稿究空突窗立"
    "站章端竹笑笔符第等答策签简算管箱節範米类粉精糊系紀約納級素索累細終組結統經続網線編總繁红约级纪纳线练组细"
    "织终绍经绑结绘给络绝统继续维缀缓编缩缺网罗置署羅美群義羽翻老考者而耗聊职联聖聚肉股育背胜胡能脑脚自至致與"
    "舞航般船良色艺节花苏苗若英范茶草荐药莉获菜華营萨落葉著葛蒙蓝藏藤虎虑虚號融血行術街衛衡衣补表袁被装裝裡製"
    "複西要覆見規視覧親见观规视览觉角解触言計訊記設許証試話該認語誤說読調請論警變计订认让训议讯记讲许论设访证"
    "评识诉词译试话询该详语误说请诸读课调谢谷豆象資贝负财责败账货质购贴贵费资赋赖赛赞赤走起超越足距跟跨路跳身"
    "車軍載輸轉车轩转轮软轴轻载较辑输边込达过迎运近返还这进远连迟迭述追退送适逆选透递途這通速造連進逻遇運遍過"
    "道達遗遠選避邀還那邮郎郡部都配酒醒采释里重野量金銀錄錢錯録针钟钥钮钱铁银铺链销锁错键镇镜長长門閉開間関關"
    "门闭问闲间闻阅队防阳阵阶阻阿附际陆陈降限院除险陳陵陽隆隊随隐隔際难雄雅集離雨雪雲零雷電需露青静非面音頁項"
    "順須預頭題額類顯页顶项顺须预领频题颜额風风飛飞食餐館饰馆首香馬駅马验骨體高鬼魏魔鱼鲁麻黄黑黒默點鼠齐龍龙"
)


def _ranges() -> Iterable[tuple[str, *tuple[str | range, ...]]]:
    """Class letter and the characters in it, later entries override earlier ones; anything else is ``X``."""

    def span(first: int, last: int) -> range:
        return range(first, last + 1)

    yield ".", span(0x21, 0x7E)
    yield "-", "-=#*~+"
    yield "_", "_"
    yield "0", span(0x30, 0x39)
    yield "A", span(0x41, 0x5A)
    yield "a", span(0x61, 0x7A)
    yield "z", "jkqxz"  # rare in English words, and so in vocabularies
    yield " ", " "
    yield "\t", "\t"
    yield "\n", "\n\r"
    yield "Q", span(0x80, 0xBF), span(0x2000, 0x205F), span(0x20A0, 0x20CF)  # general punctuation, currency
    yield "e", span(0xC0, 0x24F)  # accented Latin letters
    yield "v", span(0x250, 0x36F), span(0x1E00, 0x1EFF)  # Vietnamese, phonetic, combining accents
    yield "G", span(0x370, 0x3FF), span(0x1F00, 0x1FFF)
    yield "R", span(0x400, 0x52F)
    yield "B", span(0x590, 0x5FF)
    yield "W", span(0x600, 0x7FF), span(0xFB50, 0xFDFF), span(0xFE70, 0xFEFF)
    yield "D", span(0x900, 0x9FF)  # Devanagari, Bengali
    yield "I", span(0xA00, 0xDFF)  # Gujarati to Sinhala, which fewer vocabularies know
    yield "T", span(0xE00, 0x109F)  # Thai, Lao, Tibetan, Burmese
    yield "j", span(0x1100, 0x11FF), span(0x3130, 0x318F)
    yield "Z", span(0x200B, 0x200F), span(0xFE00, 0xFE0F)  # joiners and variation selectors
    yield "S", "×÷", span(0x2060, 0x209F), span(0x20D0, 0x2BFF)  # arrows, mathematics, dingbats
    yield "b", span(0x2500, 0x259F)  # box drawing
    yield "P", span(0x3000, 0x303F), span(0xFF00, 0xFFEF)
    yield "K", span(0x3040, 0x309F)
    yield "k", span(0x30A0, 0x30FF), span(0x31F0, 0x31FF)
    yield "x", span(0x3400, 0x4DBF), span(0x4E00, 0x9FFF), span(0xF900, 0xFAFF)
    yield "c", _first_level_han()
    yield "C", _FREQUENT_HAN
    yield "h", span(0xAC00, 0xD7A3)
    yield "g", _decoded("euc_kr", range(0xB0, 0xC9), range(0xA1, 0xFF))
    yield "H", _FREQUENT_HANGUL


def _first_level_han() -> str:
    """The everyday part of the national character sets of China, Japan and Taiwan."""
    trail = range(0xA1, 0xFF)
    return (
        _decoded("gb2312", range(0xB0, 0xD8), trail)
        + _decoded("euc_jp", range(0xB0, 0xD0), trail)
        + _decoded("big5", range(0xA4, 0xC7), (*range(0x40, 0x7F), *trail))
    )


def _decoded(codec: str, lead: Iterable[int], trail: Iterable[int]) -> str:
    trail_bytes = tuple(trail)
    pairs = b"".join(bytes((first, second)) for first in lead for second in trail_bytes)
    return "".join(character for character in pairs.decode(codec, "ignore") if character >= "\u4e00")


@cache
def _classes() -> str:
    """Class of each character of the basic plane; ``str.translate`` leaves the other planes as they are."""
    table = ["X"] * 0x10000
    for letter, *parts in _ranges():
        for part in parts:
            if isinstance(part, range):
                table[part.start : part.stop] = letter * len(part)
            else:
                for character in part:
                    table[ord(character)] = letter
    return "".join(table)


# Every alternative starts with a fixed set of letters: that lets the regex engine skip it without trying.
# Of an indentation, the last space joins what follows, as it does in real tokenizers.
_BODY = (
    r"[aezv]{1,32}|A(?:[aezv]{1,32}|A{0,31}(?![aezv])|)|[Hgh]{1,8}|[CcxKk]{1,8}|[-.]{1,16}\n?|0{1,12}"
    r"|j{1,8}|R{1,20}|G{1,16}|W{1,16}|D{1,16}|I{1,16}|T{1,16}|B{1,16}"
)
_RUN = re.compile(
    rf" (?:{_BODY}|_(?:[-._]{{1,15}}\n?|)| {{0,62}}(?= )|)"
    rf"|{_BODY}|_(?:[aezv]{{1,32}}|A(?:[aezv]{{1,32}}|A{{0,31}}(?![aezv])|)|[-._]{{1,15}}\n?|)"
    r"|\n{1,8}|\t{1,8}|b{1,16}|[^ \n]"
)
_BLANKS = re.compile(r" {2,}")


# ----------------------------------------------------------------------------------------------------
# Features of one run. The calibration script fits their prices, so both sides use this one function.

_SCRIPTS = {
    "R": "cyrillic",
    "G": "greek",
    "W": "arabic",
    "B": "hebrew",
    "D": "devanagari",
    "I": "southern_indic",
    "T": "thai",
}
_CHARACTERS = {
    "H": "hangul_frequent",
    "g": "hangul_listed",
    "h": "hangul_rare",
    "C": "han_frequent",
    "c": "han_listed",
    "x": "han_rare",
    "K": "hiragana",
    "k": "katakana",
    "P": "cjk_punctuation",
    "Q": "general_punctuation",
    "S": "symbol",
    "Z": "joiner",
    "X": "other",
}
ENGLISH_PAIRS = ("th", "ou", "ea", "sh", "ow", "ing")
"""Letter groups that tell English, which vocabularies know best, from other languages in Latin letters."""


def run_features(run: str) -> Mapping[str, int]:
    """Feature name -> amount for one shape of run, as cut by ``cut_into_runs``."""
    spaced = len(run) > 1 and run[0] == " " and run[1] != " "
    body = run[1:] if spaced else run
    kind = body[0]
    if kind in "aezvA" or (kind == "_" and body[1:2] in tuple("aezvA")):
        return _word(body, spaced)
    if kind in ".-_":
        return _punctuation(body, spaced)
    size = len(body)
    if kind == "0":
        triples = (size - 1) // 3
        return {
            "digits": 1,
            "digits_after_space": spaced,
            "digit_beyond_first": size - 1,
            "digit_triples": triples,
        }
    if kind in "HghCcxKk":
        name = "hangul" if kind in "Hgh" else "ideographs"
        characters = {_CHARACTERS[letter]: body.count(letter) for letter in set(body)}
        return {f"{name}_run": 1, f"{name}_after_space": spaced, **characters}
    if kind in _SCRIPTS:
        name = _SCRIPTS[kind]
        beyond = {"cyrillic_beyond_10": max(0, size - 10)} if kind == "R" else {}
        return {f"{name}_run": 1, f"{name}_letter": size, **beyond}
    return _blank_or_single(body, kind, size)


def _word(body: str, spaced: bool) -> Mapping[str, int]:
    joined = body[0] == "_"
    letters = body[1:] if joined else body
    size = len(letters)
    if letters[-1] == "A":
        beyond = {f"capitals_beyond_{n}": max(0, size - n) for n in (1, 3, 6, 10)}
        return beyond | {"capitals": 1, "capitals_unspaced": not spaced, "joined_by_underscore": joined}
    accents = letters.count("e")
    return {f"word_beyond_{n}": max(0, size - n) for n in (3, 5, 8, 12)} | {
        "word": 1,
        "joined_by_underscore": joined,
        "word_with_accent": accents > 0,
        "accent": accents,
        "extended_latin": letters.count("v"),
        "rare_letter": letters.count("z"),
    }


def _punctuation(body: str, spaced: bool) -> Mapping[str, int]:
    marks = body.rstrip("\n")
    size = len(marks)
    line = size > 3 and marks.count("-") + marks.count("_") == size  # a ruler such as "-----": few tokens
    return {
        "punctuation": 1,
        "punctuation_after_space": spaced,
        "punctuation_before_newline": marks != body,
        "punctuation_beyond_3": 0 if line else max(0, size - 3),
        "ruler": size - 3 if line else 0,
    }


def _blank_or_single(body: str, kind: str, size: int) -> Mapping[str, int]:
    if kind == " ":
        return (
            {"single_space": 1}
            if size == 1
            else {"indentation": 1, "indentation_beyond_16": (size - 1) // 16}
        )
    if kind in "\n\tbj":
        name = {"\n": "newline", "\t": "tab", "b": "box_drawing", "j": "jamo"}[kind]
        return {name: 1, f"{name}_beyond_first": size - 1}
    if kind > "\uffff":
        return {_astral(kind): 1}
    return {_CHARACTERS.get(kind, "other"): 1}


def _astral(character: str) -> str:
    if "\U0001f000" <= character < "\U0001f900":
        return "emoji"
    return "newer_emoji" if "\U0001f900" <= character < "\U0001fb00" else "astral"


def cut_into_runs(text: str) -> Counter[str]:
    """Shape of run -> how often it occurs."""
    return Counter(_RUN.findall(text.translate(_classes())))


# ----------------------------------------------------------------------------------------------------
# Prices in tokens, written by ``benchmarks/token_estimate.py --write``: mean, low and high of the large
# family, then mean, low and high of the small one.

# calibrated prices begin
PRICES: dict[str, tuple[float, ...]] = {
    "word": (1.04, 1.003, 1.19, 1.155, 1.039, 1.222),
    "word_beyond_3": (0.054, 0.005, 0.066, 0.095, 0.064, 0.166),
    "word_beyond_5": (0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    "word_beyond_8": (0.22, 0.0, 0.289, 0.224, 0.064, 0.339),
    "word_beyond_12": (0.0, 0.0, 0.284, 0.0, 0.0, 0.0),
    "word_with_accent": (0.22, 0.0, 0.645, 0.745, 0.856, 0.464),
    "accent": (0.645, 0.348, 0.739, 0.946, 0.866, 0.795),
    "extended_latin": (0.0, 0.0, 0.81, 1.173, 1.256, 1.831),
    "rare_letter": (0.78, 0.603, 1.185, 0.931, 0.791, 1.293),
    "joined_by_underscore": (0.072, 0.0, 0.408, 0.597, 0.922, 0.565),
    "english_credit": (0.542, 0.101, 0.985, 0.906, 0.471, 1.25),
    "capitals": (1.149, 1.034, 1.283, 1.147, 0.81, 1.266),
    "capitals_unspaced": (0.047, 0.044, 0.0, 0.185, 0.458, 0.0),
    "capitals_beyond_1": (0.057, 0.041, 0.104, 0.098, 0.029, 0.185),
    "capitals_beyond_3": (0.023, 0.0, 0.152, 0.245, 0.186, 0.218),
    "capitals_beyond_6": (0.178, 0.0, 0.078, 0.15, 0.111, 0.036),
    "capitals_beyond_10": (0.37, 0.467, 0.351, 0.136, 0.317, 0.245),
    "digits": (1.277, 1.191, 1.212, 1.268, 1.16, 1.279),
    "digits_after_space": (0.729, 0.84, 0.674, 0.659, 0.659, 0.792),
    "digit_beyond_first": (0.505, 0.14, 0.925, 0.861, 0.926, 0.91),
    "digit_triples": (0.394, 0.328, 0.242, 0.365, 0.243, 0.255),
    "punctuation": (0.651, 0.47, 0.783, 0.838, 0.882, 0.788),
    "punctuation_after_space": (0.455, 0.724, 0.229, 0.131, 0.104, 0.078),
    "punctuation_before_newline": (0.0, 0.0, 0.486, 0.622, 0.784, 0.616),
    "punctuation_beyond_3": (0.172, 0.045, 0.612, 0.455, 0.359, 0.692),
    "ruler": (0.0, 0.0, 0.021, 0.035, 0.029, 0.046),
    "single_space": (0.724, 0.718, 0.476, 0.835, 0.979, 0.577),
    "indentation": (1.043, 0.893, 1.055, 1.133, 0.885, 1.205),
    "indentation_beyond_16": (0.0, 0.0, 0.384, 0.822, 0.827, 1.041),
    "newline": (0.617, 0.507, 0.757, 0.959, 1.214, 1.09),
    "newline_beyond_first": (0.0, 0.0, 0.03, 0.966, 0.917, 1.018),
    "tab": (0.426, 0.0, 0.752, 0.791, 0.65, 0.677),
    "tab_beyond_first": (0.0, 0.0, 0.065, 0.86, 0.936, 0.894),
    "hangul_run": (0.0, 0.39, 0.0, 0.347, 0.245, 0.325),
    "hangul_after_space": (0.272, 0.257, 0.52, 0.982, 0.954, 1.242),
    "hangul_frequent": (0.681, 0.388, 1.092, 1.125, 0.961, 1.528),
    "hangul_listed": (1.681, 0.885, 2.26, 2.717, 2.801, 2.641),
    "hangul_rare": (1.8, 1.8, 1.8, 2.7, 2.7, 2.7),
    "jamo": (1.992, 1.054, 2.278, 2.86, 2.858, 3.072),
    "jamo_beyond_first": (1.648, 0.0, 3.254, 3.009, 3.012, 3.128),
    "ideographs_run": (0.335, 0.544, 0.195, 0.229, 0.292, 0.0),
    "ideographs_after_space": (0.248, 0.659, 0.0, 0.104, 0.208, 0.0),
    "han_frequent": (0.648, 0.379, 1.134, 1.109, 0.976, 1.497),
    "han_listed": (1.931, 1.279, 3.35, 3.002, 2.789, 3.709),
    "han_rare": (1.857, 1.857, 1.959, 2.736, 2.72, 2.803),
    "hiragana": (0.508, 0.314, 0.886, 0.951, 0.974, 0.91),
    "katakana": (0.53, 0.243, 0.929, 0.946, 0.938, 1.042),
    "cjk_punctuation": (1.148, 1.088, 1.209, 1.339, 1.145, 1.269),
    "cyrillic_run": (1.165, 1.252, 1.228, 0.759, 0.802, 0.784),
    "cyrillic_letter": (0.185, 0.06, 0.411, 0.326, 0.287, 0.348),
    "cyrillic_beyond_10": (0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    "greek_run": (0.41, 0.116, 0.202, 0.331, 0.133, 0.39),
    "greek_letter": (0.539, 0.277, 1.031, 1.123, 1.14, 1.137),
    "arabic_run": (0.071, 0.103, 0.189, 0.399, 0.386, 0.478),
    "arabic_letter": (0.467, 0.297, 0.849, 1.056, 1.013, 1.082),
    "hebrew_run": (0.263, 0.214, 0.392, 0.386, 0.385, 0.393),
    "hebrew_letter": (0.618, 0.375, 1.131, 1.142, 1.14, 1.16),
    "devanagari_run": (0.12, 0.268, 0.024, 0.384, 0.393, 0.262),
    "devanagari_letter": (0.706, 0.223, 1.355, 1.228, 1.201, 1.331),
    "southern_indic_run": (0.426, 0.237, 0.505, 0.432, 0.564, 0.727),
    "southern_indic_letter": (1.129, 0.221, 1.871, 1.855, 1.2, 2.706),
    "thai_run": (0.184, 0.152, 0.229, 0.216, 0.215, 0.215),
    "thai_letter": (0.547, 0.28, 1.023, 1.033, 1.012, 1.085),
    "general_punctuation": (0.704, 0.739, 0.712, 1.027, 0.71, 1.143),
    "symbol": (1.245, 1.224, 1.644, 1.713, 1.376, 2.056),
    "box_drawing": (0.716, 0.64, 0.768, 0.49, 0.478, 0.628),
    "box_drawing_beyond_first": (0.157, 0.101, 0.305, 0.347, 0.191, 0.371),
    "joiner": (0.641, 0.263, 1.478, 0.695, 0.886, 1.07),
    "emoji": (1.97, 0.959, 3.493, 2.918, 2.003, 3.914),
    "newer_emoji": (2.9, 1.151, 4.13, 4.356, 4.136, 4.589),
    "astral": (3.0, 3.0, 3.0, 3.0, 3.0, 3.0),
    "other": (1.069, 0.342, 2.085, 1.159, 1.081, 1.229),
}
CHANCE: dict[TokenizerFamily, tuple[float, float]] = {"large": (2.08, 1.33), "small": (2.14, 1.72)}
# calibrated prices end
UNLIKE = 0.08
EXTRA_TOKENS = 2
_COLUMN: dict[TokenizerFamily, int] = {"large": 0, "small": 3}


_UNITS = 1_000_000
"""Prices are added in millionths of a token, which are whole numbers: exact in any order."""

_COLUMN_BITS = 48
_COLUMN_MASK = (1 << _COLUMN_BITS) - 1
_COLUMN_PLACES = range(0, 6 * _COLUMN_BITS, _COLUMN_BITS)
"""One number holds all columns, one every 48 bits: one sum adds all of them. 20,480 characters of the dearest
kind reach 2 to the 37."""


@cache
def _units() -> Mapping[str, tuple[int, ...]]:
    return {name: tuple(round(_UNITS * price) for price in prices) for name, prices in PRICES.items()}


@cache
def _tables(compiled: ModuleType) -> tuple[bytes, bytes, bytes]:
    """The class of each character of the basic plane, the prices of what is counted there, and what
    ``_credited`` and ``_bounded`` know besides."""
    prices = array("i", chain.from_iterable(_units()[name] for name in compiled.FEATURES))
    chances = (*CHANCE["large"], *CHANCE["small"])
    terms = array("d", (*PRICES["english_credit"], *chances, UNLIKE, EXTRA_TOKENS))
    return _classes().encode("latin-1"), prices.tobytes(), terms.tobytes()


@lru_cache(maxsize=8192)
def _price(run: str) -> int:
    """What one run costs, all columns packed. Keys are shapes, not text, and there are few of them."""
    return sum(
        amount * price << place
        for name, amount in run_features(run).items()
        for price, place in zip(_units()[name], _COLUMN_PLACES, strict=True)
    )


class _Pieces(dict[str, int]):
    """The price of a piece of a shape, cut into its runs once. The bounds guard against a hostile text."""

    longest_kept_characters = 32
    most_kept = 16_384

    def __init__(self, runs: Callable[[str], list[str]]) -> None:
        super().__init__()
        self._runs = runs

    def __missing__(self, piece: str) -> int:
        packed = sum(map(_price, self._runs(piece)))
        if len(piece) <= self.longest_kept_characters:
            if len(self) >= self.most_kept:
                self.clear()
            self[piece] = packed
        return packed


_PIECES = _Pieces(_RUN.findall)
_SPACED_PIECES = _Pieces(lambda piece: _RUN.findall(" " + piece))
_INDENTATIONS = _Pieces(lambda spaces: _RUN.findall(spaces)[:-1])


def forget_prices() -> None:
    """For the calibration script, which changes ``PRICES``: drop what was computed from the old ones."""
    for made in (_units, _tables, _price):
        made.cache_clear()
    for pieces in (_PIECES, _SPACED_PIECES, _INDENTATIONS):
        pieces.clear()
