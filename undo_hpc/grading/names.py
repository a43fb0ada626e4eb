"""The names of mathematics that the tokenizer and the grammar know. Each set is one string, one name a word."""

from __future__ import annotations


def word_list(names: str) -> list[str]:
    """The words of a string."""
    return names.split()


def word_set(names: str) -> frozenset[str]:
    """The words of a string as a set."""
    return frozenset(names.split())


def _map(pairs: str) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in pairs.split())


GREEK = word_set(
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau upsilon phi chi psi omega "
    "Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega"
)
# Functions of one argument, as ASCII answers and LaTeX write them.
FUNCTIONS = word_set(
    "sin cos tan cot sec csc arcsin arccos arctan arccot arcsec arccsc asin acos atan sinh cosh tanh coth sech csch "
    "asinh acosh atanh ln log lg exp sqrt cbrt abs floor ceil sgn sign det Re Im arg"
)
MULTI_ARGUMENT = word_set("gcd lcm max min binom")
CONSTANTS = word_set("pi infty infinity oo inf")
NAMES = GREEK | FUNCTIONS | MULTI_ARGUMENT | CONSTANTS | word_set("mod cdot times frac")
# Operators whose argument runs on to the end of the term, and that only sampling or algebra can evaluate.
BIG = word_set("sum prod")

RENAMED = _map(
    "dfrac=frac tfrac=frac cfrac=frac dbinom=binom tbinom=binom leq=le leqslant=le leqq=le geq=ge geqslant=ge geqq=ge "
    "neq=ne lt=< gt=> lbrace=\\{ rbrace=\\} lbrack=[ rbrack=] lparen=( rparen=) vert=| lvert=| rvert=| Vert=| lVert=| "
    "rVert=| varnothing=emptyset varepsilon=epsilon varphi=phi vartheta=theta varrho=rho degree=° cdotp=cdot ast=cdot "
    "star=cdot dots=ldots cdots=ldots dotsc=ldots dotsb=ldots dotsm=ldots infin=infty infinity=infty oo=infty inf=infty "
    "exponentialE=e imath=i imaginaryI=i simeq=approx cong=approx sim=approx thickapprox=approx colon=: backslash=setminus "
    "smallsetminus=setminus bigcup=cup bigcap=cap bar=overline ulcorner=lceil urcorner=rceil llcorner=lfloor "
    "lrcorner=rfloor tg=tan ctg=cot cotan=cot arctg=arctan arcctg=arccot cosec=csc land=and wedge=and lor=or vee=or "
    "arsinh=asinh arcosh=acosh artanh=atanh arcsinh=asinh arccosh=acosh arctanh=atanh asin=arcsin acos=arccos atan=arctan sign=sgn overrightarrow=vec "
    "widehat=hat widetilde=tilde mathbf=bold boldsymbol=bold bm=bold lang=langle rang=rangle qquad=quad iff=Leftrightarrow"
)
DROPPED = word_set(
    "left right big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr Biggl Biggr bigm displaystyle textstyle scriptstyle "
    "limits nolimits enspace nobreak hfill newline notag nonumber middle mathopen mathclose noindent centering par "
    "linebreak boxed fbox framebox checkmark blacksquare square thinspace medspace thickspace negthinspace Large large "
    "huge Huge therefore because hline mathstrut"
)
TEXT_COMMANDS = word_set(
    "text textnormal textrm textbf textit texttt textsf mbox hbox mathrm mathit mathsf mathtt operatorname rm bf it emph underline"
)
# Accents and marks that make a name of their own: \vec{a} is not a.
MARKS = word_set(
    "overline hat vec bold tilde angle triangle measuredangle mathcal mathfrak mathscr overleftrightarrow"
)
RELATIONS = word_set("= < > le ge ne approx in notin equiv subset subseteq to perp parallel propto")
CONNECTORS = word_set("and or und oder et ou y o")
_TEENS = word_list(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_TENS = word_list("twenty thirty forty fifty sixty seventy eighty ninety")
NUMBER_WORDS = {word: i for i, word in enumerate(_TEENS)} | {
    word: 10 * i for i, word in enumerate(_TENS, start=2)
}
SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12}
# English words of two and three letters, which are no products of letters. Longer runs of letters are words anyway.
SHORT_WORDS = word_set(
    "is are was the not for all any no yes of to in on at by an as be we so if it he she has had can may but odd one two "
    "six ten men way red new old day per out its his her our you who why how off up us do did get got use see set"
)
# Runs of letters that look like words but are products by convention.
LETTER_PRODUCTS = word_set("abcd abcde abcdef wxyz xyzt pqrs")
