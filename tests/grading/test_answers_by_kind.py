r"""Answers that say the same and answers that do not, by the kind of their structure.

A row is two answers with a bar between; a stroke `/=` in place of it says that they differ. Each is
graded in both directions, without the algebra in processes apart.
"""

import itertools
import string

import pytest

from llmsmc.grading import grades as grading
from llmsmc.grading.comparison import same
from llmsmc.grading.grades import equivalence_classes, grade
from llmsmc.grading.grammar import Node

KINDS = {
    "members of three digits": r"""
        (0,100) || (0, 100)
        (0, 100) /= 100
        (2, 100) /= 2100
        (2,100) /= 2100
        1, 100 /= 1100
        1, 100 /= 1,100
        (1, 200, 300) /= 1200300
        (1, 200, 300) || (1,200,300)
        100, 200 || 200, 100
        \pm 100 || -100,100
        \pm 250 || 250, -250
        \pm 100 /= 100
        12, 345 /= 12345
        \{5, 600\} /= 5600
        [1, 500] /= 1500
        12,345,678 || 12345678
        1, 100, 200 || 200, 1, 100
        1,000 || 1000
        1, 000 || 1000
        (1,000) || 1000
        \{1,000, 2,000\} || \{2000, 1000\}
        \frac{1,000}{3} || 1000/3
        x=1,000 || 1000
        11,\! 111,\! 100 || 11111100
        1{,}234 || 1\,234
        1 234 567 || 1,234,567
        1,200.50 || 1200.5
        2,3 /= 23
    """,
    "small and large exact values": r"""
        \frac{6^{40}-5^{40}}{6^{40}} /= (5/6)^{40}
        \frac{6^{40}-5^{40}}{6^{40}} || 1-(5/6)^{40}
        5/2^{60} /= 7/2^{60}
        1/20! /= 1/21!
        \frac{20!}{21!} || \frac{1}{21}
        1.67e-27 /= 9.11e-31
        1.67\times10^{-27} /= 9.11\times 10^{-31}
        6.02\times 10^{23} || 6.02e23
        2^{-100} /= 2^{-101}
        1-10^{-30} /= 1
        10^{30}+1 /= 10^{30}
        1 - 2^{-80} /= 1
        \frac{1}{30!} /= 0
        \frac{1}{10^{20}} || 10^{-20}
        0.000001 || 10^{-6}
        e^{\pi\sqrt{163}} /= 262537412640768744
        0.3333333333 /= 1/3
        3.14159265 /= \pi
        \frac{22}{7} /= \pi
        1.0000000000000001 /= 1
        1.4142135623731 || \sqrt{2}
        1.41421356 /= \sqrt{2}
        100! || 100\cdot 99!
        100!+1 /= 100!
        3^{10000} /= 3^{10000}+1
        \frac{1}{\binom{60}{30}} || \frac{30!\,30!}{60!}
        \frac{\sqrt{2}}{10^{40}} /= \frac{\sqrt{3}}{10^{40}}
    """,
    "dots": r"""
        2, 4, 6, \ldots, 100 /= 100
        2, 4, 6, \ldots, 100 /= 1, 3, 5, \ldots, 100
        2, 4, 6, ..., 100 || 2,4,6,\dots,100
        2, 4, 6, \cdots, 100 /= 2, 4, 6, 100
        1, 2, 3, \ldots /= 1, 2, 3
        1, 2, 3, \dots || 1,2,3,...
        1,2,\ldots,n || 1, 2, \dots, n
        1,2,\ldots,10 /= 1,2,\ldots,11
        1,2,\ldots,10 /= 10,\ldots,2,1
        \{1,3,5,\ldots\} /= \{2,4,6,\ldots\}
        1+2+\cdots+100 /= 1+2+100
        0.333\ldots /= 0.333
        \ldots /= 5
    """,
    "short words": r"""
        no /= on
        \text{no} /= on
        Amy /= May
        RGB /= BGR
        \text{RGB} || RGB
        no || \text{No}
        saw /= was
        DNA /= AND
        IV /= VI
        HTH /= THH
        Ian /= Nia
        ab /= ba
        AB /= BA
        xy || yx
        xyz || zyx
        ab || a \cdot b
        2xy || 2yx
        2ab || 2ba
        \frac{ab}{2} || \frac12 ba
        (xy)^2 || y^2x^2
        2x /= 2X
        Amy, Bob || Bob, Amy
        \text{Paris}, \text{Rome} || \text{Rome}, \text{Paris}
        \text{Paris}, \text{Rome} /= \text{Rome}
        Amy, Bob /= May, Bob
        HHT, HTH /= HHT, THH
        \{no, yes\} /= \{on, yes\}
        \text{Amy} \text{ and } \text{Bob} || \text{Bob}, \text{Amy}
        east /= seat
        x=no /= x=on
    """,
    "times and ratios": r"""
        1:15 /= 2:30
        3:30 PM /= 3:30 AM
        10 AM /= 10 PM
        PM /= AM
        PM /= MP
        1:2:3 || 2:4:6
        1:2:3 /= 3:2:1
        1:2:3 /= 1:2
        1:2 /= 2:1
        3:4 || 6:8
        12:16 || 3:4
        \frac{1}{2}:\frac{1}{3} || 3:2
        1:2 || \frac{1}{2}
        10:15 || 2:3
        1:30 /= 3:00
        3:30 PM || 3:30 p.m.
        3:30\text{ PM} || 15:30
        3:30 PM || 3:30
        3 PM || 3:00 PM
        \text{7 pm} || 7 PM
        12:00 PM /= 12:00 AM
        12:00\text{ noon} /= 12:00\text{ midnight}
        12:00\text{ noon} || 12 PM
        8:00 in the morning /= 8:00 in the evening
        3 to 5 || 6:10
        2:3:5 || 4 : 6 : 10
        0.5:1 || 1:2
        2:03 /= 2:3
        1:02 /= 1/2
    """,
    "sets, pairs, intervals": r"""
        \{1,2\} /= (2,1)
        \{1,2\} /= (1,2)
        \{1,2\} || \{2,1\}
        \{1,2\} || 1,2
        2,1 || 1,2
        \{1,1,2\} || 1,2
        2,1,1 /= 1,2
        (2,1) /= (1,2)
        [1,2] /= (1,2)
        \{1,2\} /= [1,2]
        \{1,2,3\} /= (1,2,3)
        \{3,5\} /= \{3,5,7\}
        \{1,2\} /= 12
        \{\emptyset\} /= \emptyset
        \{1,2\},\{3\} /= \{1\},\{2,3\}
        (1,2) /= (1,2,3)
        1,2 || (1,2)
        2,1 /= (1,2)
        \{5\} || 5
        (1,2),(3,4) || \{(3,4),(1,2)\}
        (\pm 1, 2) || (1,2),(-1,2)
        \pm 1 \pm \sqrt2 || 1+\sqrt2, 1-\sqrt2, -1+\sqrt2, -1-\sqrt2
        \{1\pm\sqrt{5},-2\} || -2, 1+\sqrt5, 1-\sqrt5
        \emptyset || \varnothing
        \{\} || \emptyset
        \emptyset /= \{0\}
        \emptyset /= 0
        \langle1,2\rangle || (1,2)
        <1, 2> || \langle 1,2\rangle
        \langle 1,2\rangle /= \langle 2,1\rangle
        \begin{pmatrix}1\\2\end{pmatrix} || (1,2)
        \begin{pmatrix}1&2\end{pmatrix} /= \begin{pmatrix}1\\2\end{pmatrix}
        \begin{bmatrix} 1 & 0 \\ 0 & 1 \end{bmatrix} || \begin{pmatrix} 1 & 0 \\ 0 & 1 \end{pmatrix}
        \begin{vmatrix}1&2\\3&4\end{vmatrix} || -2
        \begin{vmatrix}1&2\\3&4\end{vmatrix} /= \begin{pmatrix}1&2\\3&4\end{pmatrix}
        \mathbb{R} || (-\infty,\infty)
        (0,9) \cup (9,36) || (9,36)\cup(0,9)
        [0,1)\cup(2,3] /= [0,1)\cup[2,3]
        \{\{1\},\{2\}\} /= \{1,2\}
        \{\{1,2\},\{3\}\} || \{\{3\},\{2,1\}\}
        \{\{1,2\},\{3\}\} /= \{\{1\},\{2,3\}\}
        \{\{1\}\} /= \{1\}
        \{1\}\cup\{2\} || \{1,2\}
    """,
    "relations": r"""
        |x|\le 1 || -1\le x\le1
        |x|\le 1 || [-1,1]
        |x|\le 1 /= -1<x<1
        |x - 2| \le 3 || -1 \le x \le 5
        |x|>2 || (-\infty,-2)\cup(2,\infty)
        |x| \ge 2 || x\le -2 or x\ge 2
        |x| \ge 1 /= [-1,1]
        x\in[1,2] || [1,2]
        x \in \{1,2\} /= x \in [1,2]
        x<3 || (-\infty,3)
        x<3 /= (3,\infty)
        x<3 /= x\le 3
        x > 3 /= y > 3
        x > 3 || 3 < x
        3 < x \le 4 || (3,4]
        x \neq 3 || (-\infty,3)\cup(3,\infty)
        x>1 and x<3 || (1,3)
        x>1, x<3 || (1,3)
        x < -1, x > 1 || |x|>1
        x > -1, x < 1 /= x < -1, x > 1
        (0,1] \cup [1,2) || (0,2)
        (0,1)\cup(1,2) /= (0,2)
        (-\infty,a)\cup(b,\infty) || (b,\infty) \cup (-\infty,a)
        [1, 3] \cup [2, 6] || [1, 6]
        \{1\} \cup \{4\} || \{4, 1\}
        [0,5]\setminus\{2\} || [0,2)\cup(2,5]
        2+3=5 || 5
        \{x \mid x > 3\} || (3,\infty)
        \{x\in\mathbb{R} : x \ne 2\} || \mathbb{R}\setminus\{2\}
        x+y<3 || 3>x+y
        2x<6 || x<3
        x=5 || 5
        x=5 /= y=5
        x=5 /= -5
        x=\pm 3 || 3,-3
        x=1,y=2 || y=2, x=1
        x=1,y=2 || (1,2)
        x=1,y=2 /= x=2,y=1
        (x, y) = (3, 4) || (3,4)
        x = 2 \text{ or } x = 3 || 2, 3
        y=2x+3 || 2x-y+3=0
        y=2x+3 || 2x+3
        y=2x+3 /= y=2x-3
        x^2+y^2=4 || x^2+y^2-4=0
        x^2+y^2=4 /= x^2+y^2=2
        f(x)=x^2 || x^2
        x\equiv 3\pmod{7} || 3 \pmod 7
        3 \pmod 7 || 10 \pmod 7
        3 \pmod 7 /= 3 \pmod 5
    """,
    "degrees": r"""
        \sin 30^\circ || 1/2
        \sin 30^\circ /= \sin 30
        \tan 45^\circ /= \tan 45
        2\cos 60^\circ || 1
        \sin(30°) || 0.5
        \tan^2 60^\circ || 3
        \sin^2 45^{\circ} || 0.5
        \cos{120^\circ} || -\frac12
        4\tan 60^\circ || 4\sqrt{3}
        \cos 15^\circ || \frac{\sqrt{6}+\sqrt{2}}{4}
        sin 30 degrees || 1/2
        \sin^{-1}(1/2) || 30^\circ
        \arctan 1 || \pi/4
        \sin^{-1}\frac12 /= \frac{1}{\sin 0.5}
        45^\circ || 45
        45^\circ || \frac{\pi}{4}
        30^\circ /= 60^\circ
        60\text{ degrees} || 60°
        30^o || 30
        \sin 30^\circ /= \cos 30^\circ
        100^\circ /= 100\%
        20^\circ C || 20°C
        20^\circ\text{C} /= 20^\circ\text{F}
        20\text{ degrees Celsius} /= 20 degrees Fahrenheit
        98.6^{\circ}\mathrm{F} || 98.6
        5\text{ rad} /= 5^\circ
        \frac{\pi}{2}\text{ rad} || 90^\circ
        5^\circ /= 5\text{ cm}
    """,
    "repeating decimals": r"""
        0.\overline{3} || \frac13
        0.1\overline{6} || \frac16
        0.\overline{142857} || 1/7
        0.\bar{3} || 1/3
        0.(3) || 1/3
        0.\overline3 || 1/3
        0.\overline{09} || 1/11
        1.2\overline{3} || 37/30
        -0.\overline{6} || -2/3
        0.\overline{9} || 1
        0.\overline{3} /= 0.3
        0.\overline{6} /= 0.66
        0.1\overline{6} /= 0.\overline{16}
        0.\overline{9} /= 0.9
    """,
    "choices": r"""
        \textbf{(B)}\ 12 || B
        \textbf{(B)}\ 12 || 12
        \textbf{(B) } 12 || \text{(B)}
        \textbf{(B)}\ 12 /= A
        \textbf{(B)}\ 12 /= 13
        \textbf{(B)}\ 12 /= \textbf{(B)}\ 13
        (B) 12 /= (C) 12
        (B) 12 || B
        B. 12 || B
        B) 12 || 12
        \text{(B) 12} || B
        \mathbf{(E)} || E
        \textbf{(C)}\ \frac{1}{2} || 0.5
        \textbf{(A)}\ \text{yes} || A
        B /= A
        (C) /= (E)
        d || D
        \textbf{(B)}\ \text{It's } x\neq\frac{}{} || B
        Option B || B
        D) || (D)
        (A, B) /= A
        (A), (C) /= (A)
        \text{(A)}, \text{(C)} /= \text{(A)}
        (A) and (C) /= (A)
        (A) and (C) || C, A
        \textbf{(A) and (C)} || (A), (C)
        \text{(A), (C)} || A and C
        (A), (B), and (D) || A, B, D
        (A), (B), and (D) /= A, B
        (B) 1, 2 || 2, 1
        \boxed{\textbf{(B)}\ 12} || B
        {\textbf{(B)}\ 12} || 12
        \displaystyle \text{(C)} || C
        The correct answer is (B). || B
        The correct answer is (B). /= C
    """,
    "plain text": r"""
        pi/2 || \frac{\pi}{2}
        pi/3 /= \pi/2
        -2*pi || -2\pi
        x**2 || x^2
        3*x**2 || 3x^2
        x**2 /= x**3
        3.2e5 || 320000
        3.2e5 /= 3.2e6
        2e-3 /= 0.002
        2e-3 || 2e - 3
        1.5e-3 || 0.0015
        3.2 x 10^5 || 320000
        **73** || 73
        `73` || 73
        = 5 || 5
        sqrt(2)/2 || \frac{\sqrt{2}}{2}
        (1+sqrt(5))/2 || \frac{1+\sqrt{5}}{2}
        sin(pi/6) || 1/2
        exp(2) || e^2
        x^(1/2) || \sqrt{x}
        √2 || \sqrt{2}
        x² || x^2
        x¹⁰ || x^{10}
        10⁻³ || 0.001
        1½ || 3/2
        5 million || 5000000
        5 million /= 5
        {7 \over 9} || 7/9
        {9 \choose 2} || 36
        \text{The answer is } 17 || 17
        __88__ || 88
        \large{25} || 25
        x1 /= x2
        A1 /= 1A
        73 percent || 73\%
        Answer: 42 || 42
        The answer is 42. || 42
        \approx 42 || 42
        "42" || 42
        ``odd'' || odd
        \textbf{$\frac{1}{2}$} || 0.5
        \textcolor{red}{5} || 5
        \underline{5} || 5
        $x=1$ or $x=2$ || 1, 2
        \(2\) and \(300\) || 2, 300
        \(2\), \(300\) /= 2300
        5 – 3i || 5-3i
        33 1/3 % || 1/3
        \$5 and \$6 /= 5
    """,
    "numbers": r"""
        14-i || 14.0-1.0i
        14-i /= 14+i
        3+4i /= 4+3i
        3+4i || 4i+3
        \sqrt{-4} || 2i
        e^{i\pi} || -1
        1\frac45 || 9/5
        1 4/5 /= 14/5
        10\% || 0.1
        28% || 28
        10\% /= 1
        33\frac{1}{3}\% || \frac{1}{3}
        \infty /= -\infty
        \infty || +\infty
        1/0 /= 0
        52_7 /= 52_8
        x = 52_8 || 52_{8}
        \sqrt[3]{-8} || -2
        \log_2 8 || 3
        \log 100 || 2
        \binom{5}{2} || 10
        \sqrt{8} || 2\sqrt{2}
        \sqrt{7} /= \sqrt{8}
    """,
    "expressions with letters": r"""
        (a+5)(b+2) || ab+2a+5b+10
        \sin 2x || 2\sin x\cos x
        \ln(x^2) || 2\ln x
        12x\sqrt{x} || 12x^{3/2}
        n! || n(n-1)!
        \frac{n(n-1)}{2} || \binom{n}{2}
        \frac{x^2-1}{x-1} || x+1
        |2x-1| || |1-2x|
        \sqrt{x^2} || |x|
        \sqrt{x} /= x
        x_1 /= x_2
        f(x) /= g(x)
        \frac{dy}{dx} /= \frac{y}{x}
        x^2 /= x^3
        3\mathbf{i}+4\mathbf{j} || 4\mathbf{j}+3\mathbf{i}
        3\mathbf{i}+4\mathbf{j} /= 3\mathbf{i}+4\mathbf{k}
        |x|+|y| /= |x+y|
        |x+10| /= x+10
        |x-100| /= 100-x
        |\beta| /= \beta
        \max(x,20) /= 20
        \min(n,50) /= n
        \max(x,y) || \frac{x+y+|x-y|}{2}
        \lfloor x\rfloor /= \lceil x\rceil-1
        \lfloor -x\rfloor || -\lceil x\rceil
        y=|x+10| /= y=x+10
        \frac x2 || \frac{x}{2}
        \frac ab /= \frac ba
        f^{-1}(x) = \frac{x-1}{2} || \frac{x-1}{2}
        f^{-1}(x) = x /= f(x) = x
        1\over 2 || 0.5
        \sqrt[]{2} || \sqrt2
        α + λ || \lambda + \alpha
        x₁ + x₂ || x_1+x_2
        2\begin{pmatrix}1\\x\end{pmatrix} || \begin{pmatrix}2\\2x\end{pmatrix}
        -\begin{pmatrix}1\\2\end{pmatrix} || \begin{pmatrix}-1\\-2\end{pmatrix}
        2\begin{pmatrix}1\\2\end{pmatrix} /= \begin{pmatrix}2\\2\end{pmatrix}
    """,
    "units": r"""
        5\text{ cm} || 5
        5cm || 5
        5\text{ cm} /= 5\text{ m}
        5\text{ cm} /= 5\text{ cm}^2
        5 hours /= 5 minutes
        \$5 /= 5 cents
        \$18 || 18 dollars
        €12 || 12 euros
        €12 /= \$12
        \text{Rs. } 400 || 400
        864\text{ in}^2 || 864 \mbox{ inches}^2
        12\text{ square inches} || 12 \text{ in}^2
        60 \text{ mi/h} || 60 miles per hour
        5 apples || 5
        5^{\text{th}} || 5
        \frac{270}7\text{ degrees} || \frac{270}{7}
        5\text{ or more} /= 5
        5\text{ and a half} /= 5
        3\text{ tenths} /= 3
        5 \text{ east} /= 5 \text{ west}
        10\text{ miles west} /= 10\text{ miles}
        10\text{ BC} /= 10\text{ AD}
        5 ft 6 in || 5\text{ feet }6\text{ inches}
        5 ft 6 in /= 6 ft 5 in
        5 ft 6 in /= 30
        4 hours 30 minutes /= 4 hours
        5\text{ red and }3\text{ blue} /= 3\text{ red and }5\text{ blue}
        5\text{ red and }3\text{ blue} || 3\text{ blue}, 5\text{ red}
        4\text{ cm} \times 5\text{ cm} || 20
    """,
    "units as models write them": r"""
        18\text{ dollars per day} || 18
        90 degrees || 90^\circ
        5.4 cents || 5.4 \text{ cents}
        \frac{270}{7}^\circ || \frac{270}7\text{ degrees}
        864 \text{ square inches} || 864 \mbox{ inches}^2
        864 in² || 864 \mbox{ inches}^2
        864 sq. in. || 864 \mbox{ inches}^2
        2 hours || 2
        \approx 3.14 || 3.14
        USD 5 || \$5
        5 \frac{\text{m}}{\text{s}} || 5 m/s
        5\ \mathrm{m/s} || 5 meters per second
        x \approx 2.5 || 2.5
        \text{approximately } 5 || 5
        \text{18 dollars} || 18
        18 \text{ dollars } || 18
        18\,\text{dollars}. || \$18
        18 \text{ (dollars)} || 18
        18 dollars /= 18 cents
        5.4\text{ cents} /= 5.4\text{ dollars}
        2 hours /= 2 minutes
        5\text{ km/h} /= 5\text{ m/s}
        5 \frac{\text{m}}{\text{s}} || 5\text{ m/s}
        5 \frac{\text{m}}{\text{s}^2} || 5\text{ m/s}^2
        5\text{ m/s} || 5 m/s
        5 m || 5\text{ m}
        5 m/s || 5
        \text{about }5 || 5
        5 sq. ft || 5\text{ ft}^2
        5 sq. ft. || 5 \text{ square feet}
        5 cu. cm || 5 cm^3
        5 sq. ft /= 5 sq. m
        \text{Number of eggs: } 18 || 18
        18 eggs || 18
        18 eggs per day || 18
        18/day || 18
        18 USD || 18
        18€ || 18
        €18 || 18
        £18 /= €18
        3 m/s^2 || 3
        3 m^2 || 3\text{ m}^2
        12 m /= 12n
        1500 meters || 1500 m
        3\frac{1}{2} hours || 3.5 \text{ hours}
        72 degrees F || 72^\circ F
        5 m || 5
        5 m || 5 meters
        5 m || 5m
        5 m /= 5 cm
        5 m/s || 5\text{ m/s}
        5 m/s /= 5 km/h
        5 m^2 || 5m^2
        -5 m || -5 meters
        1,500 m || 1500
        18/day /= 18/week
        \$18/hour || 18
        1/cm || 1\text{ per cm}
        \text{sq. m} /= \text{sq. ft}
        5\text{ sq. m} /= 5\text{ sq. ft}
        5\text{ sq. m} || 5\text{ m}^2
    """,
    "names of what is asked for": r"""
        \text{The answer is } 18 || 18
        x_1 = 1, x_2 = -2 || 1,-2
        x_1 = 1, x_2 = -2 || x=1,-2
        P(1,2) || (1,2)
        A(1, 2), B(3, 4) || (1,2),(3,4)
        \text{Area} = 5\text{ cm}^2 || 5
        \text{Area} = 5 || 5
        P(X=2)=\frac{1}{4} || 1/4
        P(A \cap B) = 0.25 || 1/4
        |AB|=5 || 5
        x_1=1, x_2=-2 /= 1,2
        x_1=1, x_2=-2 /= x=1
        x_1=1, x_2=-2 /= x_1=-2, x_2=1
        x_1=1, x_2=-2 /= y=1,-2
        x_1=1, y_1=2 /= x=1,2
        a_1=1, a_2=3 /= a_1=3, a_2=1
        A(1,2) /= (2,1)
        A(1,2) /= B(1,2)
        A(1,2) /= A(2,1)
        |AB| = 5 /= |CD| = 5
        |AB| = 5 /= 6
        |x| = 5 /= 5
        |x-1| = 5 /= 5
        \text{Day } 5 /= \text{Day } 6
        x_1=1,x_2=2 || x=2,1
        x_1=1,x_2=2,x_3=3 || x=1,2,3
        x_1=1,x_3=2 /= x=1,2
        |S| = 12 || 12
        P(A|B) = 1/3 || 1/3
        P(A \mid B) = 1/3 || 1/3
        P(A) = 1/3 || 1/3
        P(1+r) = 5 /= 5
        F(x,y)=x+y || x+y
        P(0,0) || (0,0)
        A(1,2) || A = (1,2)
        A\left(1, 2\right) || (1,2)
        M(1.5, 2) || (3/2, 2)
        A(1,2),B(3,4) /= (3,4),(1,2)
        P_1(1,2) || (1,2)
        3A(1,2) /= (1,2)
        N(0,1) /= N(0,2)
        A(1,2,3) || (1,2,3)
        P(A|B) = \frac{1}{3} || \frac13
        P(A \mid B) = 1/3 || P(A\mid B)=\frac{1}{3}
        P(A \mid B) = 1/3 /= P(B\mid A)=\frac{1}{3}
        P(A \mid B) = 1/3 /= 1/4
        \operatorname{Var}(X) = 2 || 2
        \operatorname{Cov}(X,Y) = 2 || 2
        E[X] = 3 || 3
        E(X) = 3 || 3
        [ABC] = 12 || 12
        3 \star 4 = 5 || 5
        3 \star 4 = 5 /= 6
        1, 2 ? x = 5 /= 5
        \deg f = 5 || 5
        \text{Total} = \$18 || 18
        Total = 18 || 18
        Total: 18 || 18
        \text{Total cost: } \$18 || \$18
        |x| \le 1 || -1\le x\le 1
        |x|<1 /= -1\le x\le 1
        |x| > 2 || x<-2 or x>2
        |x-3| < 2 || (1,5)
        The answer is (B) || B
        Total: 18 /= 19
        Boys: 5 /= Girls: 5
        Domain: x \ne 0 || x\ne 0
        Solutions: x = 1, x = 2 || x=1,2
        Vertex: (1,2) || (1,2)
        y = -2x /= 3 = -2x
        Probability: 1/3 || \frac13
        Final answer: x = 5 || 5
        x_1 > 1 /= x > 1
        x_1 = 1 /= x = 1
        x_1 = 1 || 1
        March 41 /= Marhc 41
        May 5 /= Amy 5
        May 5 || 5 May
        Box 4 /= Bxo 4
        Day 5 /= Day 6
        Total = 18 || \text{Total} = 18
        Area = 18 || 18
        Area = 18 /= Perimeter = 18
        P(X = 2) = 1/4 /= 1/2
        P(X>2) = 1/4 || 0.25
        P(A \cup B)=1/4 || 0.25
        |F| = 5 || 5
        |F|=5 /= F=5
    """,
    "marks and spaces": r"""
        $$\frac{14}{3}$$ || 14/3
        \(\frac{14}{3}\) || \dfrac{14}3
        \[ \frac{14}{3} \] || 4\frac{2}{3}
        (52)_8 || 52_8
        52 \text{ (base 8)} || 52_8
        52_{\text{8}} || 52_8
        3{:}1 || 3:1
        1'000 || 1000
        1'234'567 || 1,234,567
        \displaystyle\frac{1}{2} || 1/2
        5\quad || 5
        \Rightarrow 5 || 5
        \therefore x = 5 || 5
        52_8 /= 52_9
        52_8 /= 25_8
        1'000 /= 100
        1'000 /= 1
        f(1'000) || f(1000)
        3{=}3 || 3=3
        x{=}3 || 3
        101_2 || 101 base 2
        101 in base 2 /= 101_3
        \Rightarrow 5 /= 6
        12’345 || 12345
        f'100 || f'100
        5'10'' /= 510
        {-}3 || -3
        [[1,2],[3,4]] || \begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}
        5'000'000 || 5{,}000{,}000
        x{+}1 || x+1
        x^{+} /= x
        [[1,2],[3,4]] /= [[1,3],[2,4]]
        [[1,2],[3,4]] || [[1, 2], [3, 4]]
        [[1,2,3]] || \begin{bmatrix}1&2&3\end{bmatrix}
        [(1,2),(3,4)] /= [[1,2],[3,4]]
    """,
    "references as models write them": r"""
        4 2/3 || 14/3
        (r,\theta)=\left(3,\frac{\pi}{2}\right) || (3,\frac{\pi}{2})
        **Evelyn** || \text{Evelyn}
        \angle ABC = 90^\circ || 90^\circ
        \sqrt{117} || 3\sqrt{13}
        x_{1}=1 \text{ and } x_{2}=-2 || x = 1, -2
        15 percent || 15\%
        \cot(x) || \cot x
        East || \text{east}
        x \in \left(3, 4\right] || (3,4]
        (C)\ 5 || 5
        \boxed{\text{(C)}} || C
        \$32348.00 || \$32,\!348
        -2, 1 \pm \sqrt{5} || \{1\pm\sqrt{5},-2\}
        2x + 3 || y = 2x + 3
        6.72 × 10⁻⁵ || .0000672
        (a,b,c) = (6,31,-1) || (6,31,-1)
        \text{No solution} || no solution
        8n²+4n+1 || 8n^2 + 4n + 1
        (x, y) = (1, 2) || (1,2)
        \{(1,2),(3,4)\} || (3,4),(1,2)
        AB = 5 || 5
        \frac{1}{3}:\frac{2}{3} || 1:2
        \text{ } 5 || 5
        5\% \text{ of the students} || 5\%
        (7, 5) || (7,5).
    """,
    "what is excluded": r"""
        (0, 36) \setminus \{9\} || (0,9) \cup (9,36)
        x \neq 0 || (-\infty,0)\cup(0,\infty)
        x \ne 1, 2 || x \neq 1 \text{ and } x \neq 2
        x \neq 1, x\neq 2 || (-\infty,1)\cup(1,2)\cup(2,\infty)
        x \ne \pm 1 || x\ne 1, x\ne -1
        x\ne 1,2 /= x\ne1
        x\ne 1,2 /= x=1,2
        x\ne 1,2 /= x\ne 1,3
        x\ne 1 /= 1
        A\setminus B /= B\setminus A
        x \ge 0, x \ne 1 || [0,1)\cup(1,\infty)
        x\in\mathbb{R}, x\ne 1 || x\ne 1
        \mathbb{R}\setminus\{1,2\} || x\ne 1,2
        x\ne 1\text{ and } 2 || x \ne 2, 1
        x \neq 1, x\neq 2 /= x \neq 1
        x \ne -1, 1 || x\ne \pm 1
        x\ne 1,2 /= y\ne 1,2
        \mathbb{R} \setminus \{0\} || x \ne 0
        (-\infty,0)\cup(0,\infty) || \mathbb{R}\setminus\{0\}
        x \not= 1 || x \ne 1
        x \not= 1 /= 1
        x \ne 1 /= x \ne -1
        x\ne 1, x\ne 2 || x \ne 2, x\ne 1
        x\ne 1 || \mathbb{R}\setminus\{1\}
        x\ne y || y \ne x
        x > 0, x \ne 1 || (0,1)\cup(1,\infty)
        x>0 \text{ and } x\ne 1 || 0<x<1 \text{ or } x>1
        x>0, x\ne 1 /= x>0
        x \in (0, 5), x \ne 1 || (0,1)\cup(1,5)
        n \ne 0, m \ne 0 || m \ne 0, n\ne 0
        n \ne 0, m \ne 0 /= n\ne 0
    """,
    "propositions, vectors and words of consonants": r"""
        |\overrightarrow{AB}| = 5 || 5
        |\vec{a}| = 5 || 5
        q \land p || p \land q
        \vec a\cdot\vec b || \vec b\cdot\vec a
        \mathbf{a}\cdot\mathbf{b} || \vec a\cdot\vec b
        rgb /= bgr
        gbr /= rgb
        hjk /= kjh
        \vec a\cdot\vec b /= \vec a\times\vec b
        \vec a\times\vec b /= \vec b\times\vec a
        \mathbf a\cdot\mathbf b /= \mathbf a\times\mathbf b
        \mathbf{u}\times\mathbf{v} /= \mathbf{v}\times\mathbf{u}
        p\land q /= p\lor q
        p\wedge q /= p\vee q
        p \to q /= q \to p
        \neg p /= p
        p \implies q /= p \iff q
        \mathbf{i}+\mathbf{j} /= \mathbf{i}-\mathbf{j}
        |\vec a| = 5 /= |\vec b| = 5
        p \lor q || q \lor p
        p \land q || p \text{ and } q
        x>1 \lor x<-1 || (-\infty,-1)\cup(1,\infty)
        x>1 \land x<3 || (1,3)
        x>1 \land x<3 /= x>1 \lor x<3
        |\vec{AB}| = 3 || 3
        \|\vec v\| = 5 || 5
        \mathbf{x}=5 || 5
        \mathbf{v}=(1,2) || (1,2)
        \vec v = (1,2) || \mathbf v = (1,2)
        2\mathbf{x}+1 || 2x+1
        \mathbf{i}+2\mathbf{j} || \vec i + 2\vec j
        \overrightarrow{AB} || \vec{AB}
        \overrightarrow{AB} /= \overrightarrow{BA}
        mn || nm
        \|\vec{v}\| = \sqrt{5} || \sqrt5
        p \land q \lor r /= p \lor q \land r
        p \land q \lor r || p \land q \lor r
        x>0 \land x<1 || 0<x<1
        \vec a\times\vec b /= \vec a\vec b
        \vec a+\vec b || \vec b+\vec a
    """,
    "near misses of references": r"""
        \$18.90 /= \$18.09
        1 4/5 /= 4/5
        Evelyn /= Evelyne
        3\sqrt{13} /= \sqrt{39}
        1,-2 /= -1,2
        11\sqrt2 /= \sqrt{22}
        15\% /= 0.0015
        x^3+3x-6 /= x^3+3x+6
        1\pm\sqrt{19} /= 1+\sqrt{19}
        2k+2 /= 2k+1
        \begin{pmatrix}1&2\\3&4\end{pmatrix} /= (1,2,3,4)
        3\le x\le 4 /= 3<x\le4
        \text{(C)} /= \text{(E)}
        10,080 /= 10.080
        864 ft^2 /= 864 in^2
        x<2 \text{ or } x>3 /= 2<x<3
        137\frac12 /= 137/2
        .0000672 /= .00000672
        a=6, b=31 /= (31,6)
        9:30 AM /= 9:30 PM
        \text{(C)}+1 /= (C)
        f'(1) /= f(1)
        \log_2 8 /= \log_8 2
        (1,2),(3,4) /= (1,2,3,4)
        x > 1 /= x<1
        \sin^2 x /= \sin x^2
        5! /= 5
        \text{increasing} /= \text{decreasing}
        \frac{a}{b} /= \frac{b}{a}
        \triangle ABC /= \triangle ABD
        1,2,3 /= (3,2,1)
        \arcsin x /= \sin x
        a_{n+1} /= a_{n-1}
        A \subset B /= B \subset A
        \text{III} /= \text{II}
        x + y /= x - y
        \#5 /= \#6
        \sqrt{2}+\sqrt{3} /= \sqrt{5}
    """,
}
ROWS = [
    pytest.param(*row.strip().split(sign), sign == " || ", id=f"{kind}: {row.strip()}")
    for kind, rows in KINDS.items()
    for row in rows.strip().split("\n")
    for sign in (" || ", " /= ")
    if sign in row
]


@pytest.mark.parametrize(("answer", "other", "expected"), ROWS)
def test_answers_of_each_kind(
    answer: str, other: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grading, "POOL", None)
    verdicts = {grade(answer, other), grade(other, answer)}
    assert verdicts == {"right"} if expected else verdicts <= {"wrong", "unreadable"}


@pytest.mark.parametrize("kind", KINDS)
def test_no_class_has_two_answers_that_differ(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grading, "POOL", None)
    rows = [row.strip().replace(" /= ", " || ") for row in KINDS[kind].strip().split("\n")]
    answers = [answer for row in rows for answer in row.split(" || ")]
    classes = equivalence_classes(answers)
    assert classes == equivalence_classes(answers[::-1])
    for one, other in itertools.combinations(dict.fromkeys(answers), 2):
        if classes[one] == classes[other]:
            assert grade(one, other) == grade(other, one) == "right"


def test_what_may_be_left_out_joins_no_two_answers_that_differ_in_it() -> None:
    classes = equivalence_classes(["5", "5", "x=5", "y=5", r"5\text{ cm}", r"5\text{ m}"])
    assert classes["x=5"] == "5" != classes["y=5"]
    assert classes[r"5\text{ cm}"] != classes[r"5\text{ m}"]
    classes = equivalence_classes([r"\textbf{(B)}\ 12", r"\textbf{(B)}\ 12", "B", "12", "C"])
    assert classes["C"] == "C" and len({classes["B"], classes["12"]}) == 2
    assert r"\textbf{(B)}\ 12" in (classes["B"], classes["12"])


def test_each_pair_is_compared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """32 expressions that differ need no comparison at all, as their values say so."""
    asked: list[tuple[Node, Node]] = []

    def counted(left: Node, right: Node) -> bool:
        asked.append((left, right))
        return same(left, right)

    monkeypatch.setattr(grading, "same", counted)
    answers = [rf"\frac{{\sqrt{{{n}}}+x}}{{{n}}}" for n in range(102, 134)]
    assert len(set(equivalence_classes(answers).values())) == 32
    assert not asked
    answers = [rf"x > {n}" for n in range(1001, 1017)]
    assert len(set(equivalence_classes(answers).values())) == 16
    assert len(asked) == 16 * 15 // 2
    equivalence_classes(answers)
    assert len(asked) == 16 * 15 // 2


def test_members_with_an_exact_value_are_compared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Node, Node]] = []

    def counted(left: Node, right: Node) -> bool:
        asked.append((left, right))
        return same(left, right)

    monkeypatch.setattr(grading, "same", counted)
    answers = [
        rf"\sqrt{{{n}}}x^2 - {n}x + {n}x - \sqrt{{{n}}}x^2 + \sqrt7" for n in range(202, 402)
    ]
    assert len(set(equivalence_classes(answers).values())) == 1
    assert len(asked) < len(answers)


@pytest.mark.parametrize("letter", [*string.ascii_letters, r"\alpha", r"\beta", "x_1", "f(x)"])
def test_each_letter_is_taken_on_both_sides_of_zero_and_far_from_it(letter: str) -> None:
    if letter in "ei":
        return
    for piecewise, other in [
        (f"|{letter}|", letter),
        (f"|{letter}+10|", f"{letter}+10"),
        (f"|{letter}-100|", f"100-{letter}"),
        (rf"\max({letter},50)", "50"),
        (rf"\lfloor {letter}\rfloor", rf"\lceil {letter}\rceil-1"),
        (rf"|{letter}|+|\delta|", rf"|{letter}+\delta|"),
        (rf"|{letter}-\delta|", rf"{letter}-\delta"),
    ]:
        assert grade(piecewise, other) == "wrong", piecewise


@pytest.mark.parametrize(
    ("answer", "other"),
    [
        ("7", "seven"),
        ("yes", "true"),
        ("no solution", r"\emptyset"),
        (r"1\text{ m}", r"100\text{ cm}"),
        ("1 hour 30 minutes", "90 minutes"),
        ("3,14", "3.14"),
        ("3.14", r"\pi"),
        (r"1, 2, \ldots, 5", "1, 2, 3, 4, 5"),
        (r"0.333\ldots", "1/3"),
        ("x^2 = 4", r"x = \pm 2"),
        ("f(x) = 2x", "y = 2x"),
        ("]0,1[", "(0,1)"),
        (r"x \notin \{1, 2\}", r"x \ne 1, 2"),
        (r"x \in \mathbf{R}", r"x \in \mathbb{R}"),
        ("Day 5", "5"),
        (r"\text{Janet makes } 18", "18"),
        ("x_1 = 1, x_2 = 2", "2, 1"),
        ("C(10, 3)", "120"),
        ("||v|| = 5", "5"),
        (r"2\hat{i} + \hat{j}", "(2, 1)"),
        ("1,500m", "1500"),
        (r"\cos n\pi", "(-1)^n"),
        ("x + C", "x"),
    ],
)
def test_what_is_held_to_differ_though_it_may_not(
    answer: str, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grading, "POOL", None)
    assert {grade(answer, other), grade(other, answer)} <= {"wrong", "unreadable"}


def test_what_is_held_to_be_equal_though_it_may_not() -> None:
    assert grade("5 apples", "5 oranges") == grade(r"5\text{ m}", "5") == "right"
    assert grade("spy", "pys") == grade(r"\text{Boys: } 5", r"\text{Girls: } 5") == "right"
    assert grade("(1,2)", "1 < x < 2") == grade("(1,2)", "x=1, y=2") == "right"
