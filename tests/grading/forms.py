r"""Pairs of answers by kind, in our own words: `gold || prediction || =` for equal, `!` for different. Both are bare answers."""

from __future__ import annotations

_PAIRS = r"""
# approximations
t \approx 4.2 || t \approx 4.7 || !
t \approx 4.2 || t || !
t \approx 4.2 || 4.2 || =
V \approx 33.5, A \approx 50.3 || V \approx 33.5, A \approx 51.3 || !
V \approx 33.5, A \approx 50.3 || V \approx 1, A \approx 2 || !
x \approx 0.62, x \approx -1.62 || x \approx 0.62 || !
\alpha \approx 22.6^\circ || \alpha \approx 67.4^\circ || !
\sin u \approx 0.384 || \sin u \approx 0.923 || !
\sqrt{7} \approx 2.6458 || 2.6458 || =
\sqrt{7} \approx 2.6458 || \sqrt{7} || =
\sqrt{7} \approx 2.6458 || \sqrt{11} || !
\approx 8.31 || 8.31 || =
\text{about } 8.31 || 8.31 || =
8.31 || \approx 8.13 || !
# steps, residues, common factors
p+q-\gcd(p,q) || p+q-1 || !
\gcd(u,v) || 1 || !
\operatorname{lcm}(r,s) || rs || !
\operatorname{lcm}(r,s) || \frac{rs}{\gcd(r,s)} || =
n-\gcd(n,10) || n-1 || !
\frac{pq}{\gcd(p,q)} || pq || !
\left\lfloor \frac{n}{4} \right\rfloor || \left\lfloor \frac{n+1}{4} \right\rfloor || !
\lfloor \sqrt{n+2} \rfloor || \lfloor \sqrt{n+4} \rfloor || !
\lceil \log_3 n \rceil || \lfloor \log_3 n \rfloor + 1 || !
\lceil n/2 \rceil || \lfloor (n+1)/2 \rfloor || =
\lceil n/2 \rceil + \lfloor n/2 \rfloor || n || =
\left\lfloor \frac{3n}{5} \right\rfloor || \lfloor 0.6n \rfloor || =
\lfloor x \rfloor || x || !
(-1)^n || 1 || !
(-1)^n || \cos(\pi n) || =
\frac{1-(-1)^n}{2} || n \bmod 2 || =
n \bmod 3 || n \bmod 4 || !
n! || n \cdot (n-1)! || =
n! || n^n || !
\binom{n}{3} || \frac{n(n-1)(n-2)}{6} || =
\binom{2n}{n} || \frac{(2n)!}{(n!)^2} || =
2^{\lfloor n/3 \rfloor} || 2^{n/3} || !
\sum_{j=1}^{n} j^3 || \left(\frac{n(n+1)}{2}\right)^2 || =
\sum_{j=1}^{n} j^3 || \sum_{i=1}^{n} i^3 || =
\sum_{j=1}^{n} j^3 || \sum_{j=1}^{n} j^2 || !
\sum_{i=1}^{n} b_i || \sum_{i=0}^{n-1} b_i || !
\lfloor n/2023 \rfloor || \lceil n/2023 \rceil || !
# absolute values
|p+q| || |p|+|q| || !
|pq| || pq || !
|pq| || |p||q| || =
|p|-|q| || |p-q| || !
\frac{|pq|}{3} || \frac{pq}{3} || !
\sqrt{p^2q^2} || pq || !
\sqrt{p^2q^2} || |pq| || =
|u-v| || |v-u| || =
|u-v| || u-v || !
|x-250| || 250-x || !
\max(p,q) || \frac{p+q+|p-q|}{2} || =
\max(p,q) || \min(p,q) || !
\max(p,q) || p || !
y|y| || y^2 || !
\ln|y| || \ln y || !
# infinities
L = \infty || L = -\infty || !
\lim_{n\to\infty} a_n = \infty || \lim_{n\to\infty} a_n = -\infty || !
y = \infty || \mathbb{R} || !
+\infty || \infty || =
-\infty || \infty || !
\infty || 10^{100} || !
(5, \infty) || (-\infty, 5) || !
# applied names
g(0) || 0 || !
g(0)+2 || 2 || !
Q(0)e^{-t/5} || 0 || !
b(0) || c(0) || !
f(3) || 3f || !
f(x+1) - f(x) || f(1) || !
h(2) + h(3) || h(3) + h(2) || =
h(2) + h(3) || h(2) || !
k(m+1) || km + k || =
\frac{h(a+b)}{2} || \frac{(a+b)h}{2} || =
n(n-1) || n^2 - n || =
# multiplicities, lists, sets
4,4,7 || 4,7,7 || !
1,1,5 || 5,1,1 || =
1,5 || 5,1,1 || !
\{1,1,5\} || \{5,1\} || =
2, 4, 8 || 2, 4 || !
2, 4, 8 || 2, 4, 8, 16 || !
2, 4, 8 || \{8, 4, 2\} || =
\{2, 4\} || (2, 4) || !
(2, 5), (5, 2) || (5, 2), (2, 5) || =
(2, 5), (5, 2) || (2, 5) || !
(2, 5), (5, 2) || \{(2,5),(5,2)\} || =
(2, 5) || (5, 2) || !
(2;5) || (2,5) || =
[2, 5] || (2, 5) || !
7 \text{ and } 9 || 9, 7 || =
7 \text{ or } 9 || 7 || !
1, 3, 6, 10, \ldots || 1, 3, 6, 10, \ldots || =
1, 3, 6, 10, \ldots || 1, 3, 9, 27, \ldots || !
2:4:6:\ldots || 2:4:8:\ldots || !
# other bases
25_7 || 25_8 || !
25_7 || 25_{\text{seven}} || =
25_7 || 25_{7} || =
25_7 || 257 || !
48_5 || 48_3 || !
1A_{16} || 1A_{16} || =
1A_{16} || 1B_{16} || !
# units
7 \text{ mol} || 7 \text{ g} || !
3 \text{ eV} || 3 \text{ J} || !
6 \text{ Pa} || 6 \text{ N} || !
6 \text{ N/m}^2 || 6 \text{ Pa} || =
2.5 \text{ kJ} || 2500 \text{ J} || =
4 \text{ kg/m}^3 || 4 \text{ kg/m}^2 || !
9 \text{ lb/in}^2 || 9 \text{ lb/in} || !
9 \text{ lb/in} || 9 \text{ lb} || !
12 \text{ m/s} || 12 \text{ km/h} || !
36 \text{ km/h} || 10 \text{ m/s} || =
250 \text{ mL} || 0.25 \text{ L} || =
15 \text{ books} || 15 \text{ pens} || !
15 \text{ books} || 15 || =
15 \text{ red books} || 15 \text{ books} || =
3x \text{ cm} || 3x || =
3 \text{ m} || 3 \text{ cm} || !
50 \text{ square meters} || 50 \text{ m}^2 || =
50 \text{ cm}^2 || 50 \text{ cm} || !
8\ \Omega || 8 \text{ ohms} || =
30^\circ 15' || 30.25^\circ || =
30^\circ 15' || 30.15^\circ || !
60^\circ || \frac{\pi}{3} || =
60^\circ || \frac{\pi}{6} || !
12\% || 0.12 || =
12\% || 12 || =
12\% || 1.2 || !
\$4.50 || 450 \text{ cents} || =
\$4.50 || 4.5 || =
\$4.50 || \$45 || !
3 \text{ hours } 20 \text{ minutes} || 200 \text{ minutes} || =
100 + 50{,}000 D || 100 + 50{,}000 q || !
4 \text{ and } 1 \text{ over } 3 || 4 \text{ and } 1 \text{ over } 5 || !
# families
x = \frac{\pi}{3} + n\pi, n \in \mathbb{Z} || x = \frac{\pi}{3} + k\pi, k \in \mathbb{Z} || =
x = \frac{\pi}{3} + n\pi, n \in \mathbb{Z} || \frac{\pi}{3} + n\pi || =
x = \frac{\pi}{3} + n\pi, n \in \mathbb{Z} || x = \frac{\pi}{3} + m\pi \ (m \in \mathbb{Z}) || =
x = \frac{\pi}{3} + n\pi, n \in \mathbb{Z} || x = \frac{\pi}{3} + 2n\pi, n \in \mathbb{Z} || !
x = \frac{\pi}{3} + n\pi, n \in \mathbb{Z} || x = \frac{\pi}{6} + n\pi, n \in \mathbb{Z} || !
x = \frac{\pi}{3} + n\pi, n \in \mathbb{Z} || x = \frac{4\pi}{3} + k\pi, k \in \mathbb{Z} || =
x = \frac{\pi}{3} + n\pi, n \in \mathbb{Z} || x = \frac{\pi}{3} || !
x = \pm\frac{\pi}{4} + 2\pi k, k \in \mathbb{Z} || x = 2\pi n \pm \frac{\pi}{4} || =
x = \pm\frac{\pi}{4} + 2\pi k, k \in \mathbb{Z} || x = \frac{\pi}{4} + 2\pi k, k \in \mathbb{Z} || !
x = \frac{\pi}{4} + \frac{\pi k}{2}, k \in \mathbb{Z} || x = \pm\frac{\pi}{4} + \pi k, k \in \mathbb{Z} || =
x = (-1)^k \frac{\pi}{6} + \pi k, k \in \mathbb{Z} || x = \frac{\pi}{6} + 2\pi k, x = \frac{5\pi}{6} + 2\pi k, k \in \mathbb{Z} || =
60^\circ + 180^\circ k, k \in \mathbb{Z} || 60^\circ + 180^\circ n || =
x = k\pi \text{ where } k \text{ is an integer} || x = n\pi, n \in \mathbb{Z} || =
(3k, k), k \in \mathbb{Z} || (3t, t), t \in \mathbb{Z} || =
(3k, k), k \in \mathbb{Z} || (k, 3k), k \in \mathbb{Z} || !
(x, y) = (3k, k), k \in \mathbb{Z} || (3t, t) || =
n = 5k + 2, k \in \mathbb{Z} || n \equiv 2 \pmod 5 || =
n = 5k + 2, k \in \mathbb{Z} || n = 5k + 3, k \in \mathbb{Z} || !
n = 5k + 2, k \in \mathbb{Z} || n = 5m - 3, m \in \mathbb{Z} || =
n = 6k \pm 1, k \in \mathbb{Z} || n \equiv 1, 5 \pmod 6 || =
n = 4k || 4 || !
y = C_1 e^{3x} + C_2 e^{x} || y = A e^{x} + B e^{3x} || =
y = C_1 e^{3x} + C_2 e^{x} || y = C_1 e^{3x} + C_2 e^{-x} || !
y = C e^{2x} || y = K e^{2x} || =
x \equiv 4 \pmod 9 || x \equiv 13 \pmod 9 || =
x \equiv 4 \pmod 9 || x \equiv 4 \pmod 3 || !
x \equiv \pm 2 \pmod 7 || x \equiv 2, 5 \pmod 7 || =
# solutions
a=3, b=8; a=8, b=3 || (3,8), (8,3) || =
a=3, b=8; a=8, b=3 || (3,8) || !
a=3, b=8 \text{ or } a=8, b=3 || (a,b) = (8,3), (3,8) || =
r=s=t=4 || (4,4,4) || =
r=s=t=4 || (4,4,5) || !
r=s=t=4 || r=4, s=4, t=4 || =
u=2, v=-7 || (2,-7) || =
u=2, v=-7 || v=-7, u=2 || =
u=2, v=-7 || (-7,2) || !
u=2, v=-7 || u=-7, v=2 || !
x_1 = 9, x_2 = -1 || x = 9, x = -1 || =
x_1 = 9, x_2 = -1 || -1, 9 || =
x_1 = 9, x_2 = -1 || x = 9, x = 1 || !
a_5 = 9, a_8 = -1 || a_5 = -1, a_8 = 9 || !
x = 6 \text{ or } x = -6 || x = \pm 6 || =
x = 6 \text{ or } x = -6 || x = 6 || !
2 \pm \sqrt{11} || 2 - \sqrt{11}, 2 + \sqrt{11} || =
2 \pm \sqrt{11} || 2 + \sqrt{11} || !
f(x) = 0 \text{ or } f(x) = 3x || f(x) = 3x, f(x) = 0 || =
f(x) = 0 \text{ or } f(x) = 3x || f(x) = 3x || !
\text{(i) } 4, \text{(ii) } 9 || \text{(i) } 9, \text{(ii) } 4 || !
m = 7 || 7 || =
m = 7 || m = 8 || !
# intervals and inequalities
0 < g(x) < 4 || (0, 4) || =
-3 < t \le 2 || (-3, 2] || =
-3 < t \le 2 || [-3, 2) || !
x \in [-1, 6) || -1 \le x < 6 || =
x^2 < 9 || -3 < x < 3 || =
x^2 < 9 || x < 3 || !
(-\infty, 0) \cup (7, \infty) || (7, \infty) \cup (-\infty, 0) || =
(-\infty, 0) \cup (7, \infty) || x < 0 \text{ or } x > 7 || =
(-\infty, 0) \cup (7, \infty) || (0, 7) || !
\{x \mid x \ge 4\} || [4, \infty) || =
\{x \in \mathbb{R} : x \ne 5\} || \mathbb{R} \setminus \{5\} || =
x + y < 5 || 5 > x + y || =
x + y < 5 || x + y > 5 || !
x > 2 || y > 2 || !
A \cup B || B \cup A || =
A \cup B || A \cap B || !
P \cap Q \cap R || R \cap P \cap Q || =
# equations
y = \frac{6}{x} || xy = 6 || =
y = \frac{6}{x} || xy = 5 || !
3x - 2y = 12 || 6x - 4y - 24 = 0 || =
3x - 2y = 12 || y = \frac{3}{2}x - 6 || =
3x - 2y = 12 || 12 || !
3x - 2y = 12 || 3x + 2y = 12 || !
(x-2)^2 + (y+1)^2 = 16 || x^2 + y^2 - 4x + 2y - 11 = 0 || =
\frac{x^2}{25} + \frac{y^2}{9} = 1 || \frac{x^2}{9} + \frac{y^2}{25} = 1 || !
\frac{x^2}{25} + \frac{y^2}{9} = 1 || 9x^2 + 25y^2 = 225 || =
8 = 2p + r || 2p + r || !
6 + 7 = 13 || 13 || =
f(x) = x^2 + 3 || g(x) = x^2 + 3 || =
f(x) = x^2 + 3 || f(x) = x^2 - 3 || !
S = \frac{n(n+1)}{2} || \frac{n^2 + n}{2} || =
\overrightarrow{AB} = \vec{a} - \vec{b} || \vec a - \vec b || =
\vec{u} || \vec{v} || !
\vec{u} || u || !
# commas, numbers
\gcd(300,450) || 150 || =
\max(200,300) || 300 || =
\operatorname{lcm}(120,450) || 1800 || =
(200,300) || (200, 300) || =
5,250 || 5250 || =
5,250 || 5,250.0 || =
0.(7) || \frac{7}{9} || =
0.\dot{2}\dot{7} || \frac{3}{11} || =
0.2\dot{7} || \frac{5}{18} || =
0.4545\ldots || \frac{5}{11} || =
0.45 || \frac{5}{11} || !
1.4142136 || \sqrt{2} || =
1.414 || \sqrt{2} || !
2.5 \times 10^{-4} || 0.00025 || =
2.5 \times 10^{-4} || 2.5 \times 10^{4} || !
7\frac{2}{5} || 7.4 || =
7\frac{2}{5} || \frac{14}{5} || !
3 : 30 \text{ PM} || 3:30 \text{ p.m.} || =
3 : 30 \text{ PM} || 15:30 || =
3 : 30 \text{ PM} || 3:30 \text{ AM} || !
2 \text{ to } 5 || 2:5 || =
2:5 || 40:100 || =
12:30 || 2:5 || !
12:30 || 12:30 || =
12:30 || \frac{2}{5} || !
2:5 || 5:2 || !
2:5 || 0.4 || =
x:y = 2:5 || 2:5 || =
2^{300} || 8^{100} || =
2^{300} || 2^{300}+1 || !
\frac{1}{3^{60}} || \frac{1}{3^{59}} || !
3^{-4} || \frac{1}{81} || =
i || \sqrt{-1} || =
(1+i)^2 || 2i || =
4R^3 || 4r^3 || !
\frac{2}{\sqrt{5}} || \frac{2\sqrt{5}}{5} || =
\ln 12 || 2\ln 2 + \ln 3 || =
\log_4 64 || 3 || =
\cos 2\theta || 1 - 2\sin^2\theta || =
\cos 2\theta || 1 + 2\sin^2\theta || !
ab + bc + ca || ca + ab + bc || =
-(ab + bc + ca) || ab + bc + ca || !
# matrices, pieces
\begin{pmatrix} 2 & 0 \\ 1 & 3 \end{pmatrix} \begin{pmatrix} 1 \\ 1 \end{pmatrix} || \begin{pmatrix} 2 \\ 4 \end{pmatrix} || =
\begin{pmatrix} 2 & 0 \\ 1 & 3 \end{pmatrix} + \begin{pmatrix} 1 & 1 \\ 1 & 1 \end{pmatrix} || \begin{bmatrix} 3 & 1 \\ 2 & 4 \end{bmatrix} || =
\begin{vmatrix} 4 & 1 \\ 2 & 3 \end{vmatrix} || 10 || =
\begin{vmatrix} 4 & 1 \\ 2 & 3 \end{vmatrix} || 14 || !
\det\begin{pmatrix} a & b \\ c & d \end{pmatrix} || ad - bc || =
\begin{cases} 2x & x \ge 1 \\ 0 & x < 1 \end{cases} || \begin{cases} 0 & x < 1 \\ 2x & x \ge 1 \end{cases} || =
\begin{cases} 2x & x \ge 1 \\ 0 & x < 1 \end{cases} || \begin{cases} 2x, & \text{if } x > 1 \\ 0, & \text{if } x \le 1 \end{cases} || !
\begin{cases} 2x & x \ge 1 \\ 0 & x < 1 \end{cases} || \begin{cases} 2x & \text{if } x \ge 1 \\ 0 & \text{otherwise} \end{cases} || =
# words
\text{does not exist} || \text{DNE} || =
\text{no solution} || \text{There are no solutions} || =
\text{no solution} || \emptyset || =
\text{no solution} || 0 || !
\text{red} || \text{Red.} || =
\text{red} || \text{blue} || !
\text{the first player} || \text{first player} || =
\text{possible} || \text{impossible} || !
\text{True} || \text{False} || !
\text{Anna and Ben} || \text{Ben and Anna} || =
\text{Statement III only} || \text{Statement II only} || !
\text{infinitely many} || \text{infinitely many solutions} || =
A solution exists and is unique. || A solution exists and is unique. || =
\angle P || \angle Q || !
\triangle ABC || \triangle ABD || !
# letters with values
\textbf{(B)} \: 21 || 21 || =
\textbf{(B)} \: 21 || B || =
\textbf{(B)} \: 21 || \textbf{(B)}\ 21 || =
\textbf{(B)} \: 21 || 22 || !
\textbf{(B)} \: 21 || C || !
\textbf{(B)} \: 21 || \textbf{(C)}\ 21 || !
\textbf{(B)} \: 21 || \textbf{(B)}\ 22 || !
21 || \textbf{(B)}\ 21 || =
21 || \textbf{(B)}\ 22 || !
B || \text{(B)} || =
BD || B, D || =
BD || B || !
BD || B, C || !
# kinds that came after the first hundreds
R \approx 40.8, Q \approx 20.4 || R \approx 20.4, Q \approx 40.8 || !
R \approx 40.8, Q \approx 20.4 || Q \approx 20.4, R \approx 40.8 || =
m \equiv 4 \bmod 9 || m \equiv 13 \pmod 9 || =
-\infty < t < \infty || \mathbb{R} || =
(5t, t) || (5k, k) || =
(5t, t) || (k, 5k) || !
n = 6k+5, k \ge 0 || n = 6m+5, m \ge 0 || =
n = 6k+5, k \ge 0 || n = 6m-1, m \ge 0 || !
g(x) = cx^2 \text{ for any real constant } c || g(x) = ax^2, a \in \mathbb{R} || =
x_1 = 8, x_2 = -3 || \{-3, 8\} || =
B, D || BD || =
B \text{ and } D || B || !
\binom{9}{4} || C(9,4) || =
\binom{9}{4} || C(9,3) || !
4\mathbf{i} - 7\mathbf{j} || (4, -7) || =
4\mathbf{i} - 7\mathbf{j} || 4\hat{i} - 7\hat{j} || =
4\mathbf{i} - 7\mathbf{j} || (-7, 4) || !
a + b > c || a + b - c > 0 || =
a + b > c || a + b - c < 0 || !
0.8333\ldots || 0.8333 || !
35\\% || 0.35 || =
6 \text{ feet and } 2 \text{ inches} || 74 \text{ inches} || =
# logarithms: an even power has values for negative numbers, its logarithm taken apart has none
\ln(y^2) || 2\ln y || !
\ln(y^2) || 2\ln|y| || =
\ln(y^3) || 3\ln y || =
\ln\frac{p}{q} || \ln p - \ln q || =
\frac{1}{2}\ln\frac{y+1}{y-1} || \frac{\ln(y+1) - \ln(y-1)}{2} || =
\log_{10} 70 || 1 + \lg 7 || =
\log_{10} 70 || 7 + \lg 7 || !
# systems: assignments in braces, behind one brace, with signs of their own
(4,1),(1,4) || \{u=4,v=1\},\{u=1,v=4\} || =
(4,1),(1,4) || \{u=4,v=1\},\{u=4,v=1\} || !
\left\{\begin{array}{l}x=5\\y=-2\end{array}\right. || (5,-2) || =
\left\{\begin{array}{l}x=5\\y=-2\end{array}\right. || (-2,5) || !
(\pm 4, 0) || (4,0),(-4,0) || =
(\pm 4, 0) || (4,0) || !
t = -3 \text{ or } t \ge 2 || \{-3\}\cup[2,\infty) || =
t = -3 \text{ or } t \ge 2 || t \ge -3 || !
# names of what was asked for
a+b = 41 || 41 || =
41 || a+b = 14 || !
x+y = 41 || 41 || !
M\cup N=\{1,4\} || \{4,1\} || =
M\cup N=\{1,4\} || \{4,2\} || !
g(x) \equiv 5x || g(x) = 5x || =
f(t)=pt+q, \text{ where } p,q\in\mathbb{R} || f(t)=at+b || =
f(t)=pt+q, \text{ where } p,q\in\mathbb{R} || f(t)=at^2+b || !
# residues without a name
9 || 9 \pmod{13} || =
9 || 4 \pmod{13} || !
# products beside decimals are no repeating decimals
20 - 0.15(12) || 20 - 0.15 \cdot 12 || =
-0.(6) || -\frac{2}{3} || =
# conclusions as ground truths
So $u = 2$ and $v = 11$. || (2, 11) || =
So $u = 2$ and $v = 11$. || (11, 2) || !
# Chinese connectors and units
y=4或y=-1 || y=-1,4 || =
8平方米 || 8\text{ m}^2 || =
20厘米 || 2\text{ m} || !
# words for the same
no such integers exist || no solution || =
can't be determined || cannot be determined || =
# names alike but for a mark, values that are not one value
g^{-1}(x)=5x-2 || g(x)=5x-2 || !
\frac{dy}{dx}=\cos x || \frac{dx}{dy}=\cos x || !
\angle PQR = 35^\circ || \angle PRQ = 35^\circ || !
4 || a=4, b=4 || !
C_1e^{2t}+C_2e^{-t} || Ae^{2t}+Be^{-t} || =
C_1e^{2t}+C_2e^{-t} || Ae^{2t}+Be^{t} || !
"""
FORMS: list[tuple[str, str, str, bool]] = []
for _line in _PAIRS.strip().splitlines():
    if _line.startswith("#"):
        _kind = _line[2:]
    else:
        _gold, _pred, _said = (part.strip() for part in _line.split(" || "))
        FORMS.append((_kind, _gold, _pred, _said == "="))
