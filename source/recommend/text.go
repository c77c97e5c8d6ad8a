package recommend

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/artifactofdevotion/devotion/source/changelog"
)

// Text returns tables for a terminal: with one table all of its means, with more the recommended one
// of each, and below them what these means guarantee.
func Text(tables []Table) string {
	switch len(tables) {
	case 0:
		return "no table matches\n"
	case 1:
		return tables[0].String()
	}
	var b strings.Builder
	lines := [][]string{{"table", "rows", "size", "key", "recommended", "delivers", "price", "role"}}
	follow := 0
	var used []Means
	for _, t := range tables {
		m := t.Means[0]
		if m.Complete() {
			follow++
		}
		if !slices.ContainsFunc(used, func(u Means) bool { return u.Name == m.Name }) {
			used = append(used, m)
		}
		lines = append(lines, []string{t.title(), count(t.Rows), size(t.Bytes), strings.Join(t.Key, ","), m.Name, m.Delivers.String(), m.Price, m.role()})
	}
	align(&b, lines)
	fmt.Fprintf(&b, "\nThe prices are for the number of rows in the catalogue. %d of %d deliver inserts, updates and deletes. All means of a table, and their statements: -check -table NAME\n", follow, len(tables))
	for _, m := range used {
		fmt.Fprintf(&b, "\n%s (package %s)\n", m.Name, m.Package)
		hang(&b, "  ", m.Guarantee)
	}
	return b.String()
}

// String returns all means of a table.
func (t Table) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s rows, %s, key %s\n\n", t.title(), count(t.Rows), size(t.Bytes), orNone(strings.Join(t.Key, ",")))
	lines := [][]string{{"", "means", "delivers", "price", "role"}}
	for i, m := range t.Means {
		n := strconv.Itoa(i + 1)
		if m.Refused != "" {
			lines = append(lines, []string{"-", m.Name, "not possible", "", ""})
			continue
		}
		lines = append(lines, []string{n, m.Name, m.Delivers.String(), m.Price, m.role()})
	}
	align(&b, lines)
	for i, m := range t.Means {
		mark := fmt.Sprint(i + 1)
		if m.Refused != "" {
			mark = "-"
		}
		fmt.Fprintf(&b, "\n%s %s (package %s)", mark, m.Name, m.Package)
		if i == 0 && m.Refused == "" {
			b.WriteString(": recommended")
		}
		b.WriteString("\n")
		if m.Refused != "" {
			hang(&b, "  ", "not possible: "+m.Refused)
			continue
		}
		hang(&b, "  ", m.Guarantee)
		if m.Note != "" {
			hang(&b, "  ", "price: "+m.Note)
		}
		hang(&b, "  ", "needs: "+m.Rights)
		if m.Script != nil {
			fmt.Fprintf(&b, "  run first, as %s, with a client that stops at the first error:\n", m.RunAs)
			fmt.Fprintf(&b, "    %s\n", strings.ReplaceAll(changelog.Script(m.Script).String(), "\n", "\n    "))
		}
	}
	return b.String()
}

// title is in one line, whatever the name.
func (t Table) title() string {
	label := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) { // such as a line break
			return unicode.ReplacementChar
		}
		return r
	}, t.Label())
	if t.Kind == "table" {
		return label
	}
	return label + " (" + t.Kind + ")"
}

// role says whether the present role can use a means.
func (m Means) role() string {
	switch {
	case m.Refused != "":
		return "-"
	case m.Allowed:
		return "may"
	}
	return "may not"
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// count writes a number of rows.
func count(n int64) string {
	if n < 0 {
		return "?"
	}
	return scaled(n, 1000, "", "k", "M", "G")
}

// size writes a number of bytes.
func size(n int64) string {
	if n < 0 {
		return "?"
	}
	return scaled(n, 1024, " B", " kB", " MB", " GB", " TB")
}

func scaled(n, base int64, units ...string) string {
	x, i := float64(n), 0
	for x >= float64(base) && i < len(units)-1 {
		x, i = x/float64(base), i+1
	}
	if i > 0 && x < 10 {
		return strconv.FormatFloat(x, 'f', 1, 64) + units[i]
	}
	return strconv.FormatFloat(x, 'f', 0, 64) + units[i]
}

// align writes lines of cells in columns.
func align(b *strings.Builder, lines [][]string) {
	width := make([]int, len(lines[0]))
	for _, line := range lines {
		for i, cell := range line {
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	for _, line := range lines {
		var text strings.Builder
		for i, cell := range line {
			text.WriteString(cell + strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell)+2))
		}
		b.WriteString(strings.TrimRight(text.String(), " ") + "\n")
	}
}

// hang writes a text in lines of at most 100 characters.
func hang(b *strings.Builder, indent, text string) {
	line := indent
	for _, word := range strings.Fields(text) {
		if line != indent && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > 100 {
			b.WriteString(line + "\n")
			line = indent
		}
		if line != indent {
			line += " "
		}
		line += word
	}
	if line != indent {
		b.WriteString(line + "\n")
	}
}
