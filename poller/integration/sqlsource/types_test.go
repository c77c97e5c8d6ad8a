package sqlsource

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// column is a column of a table of extreme values. oracle asks the database for the
// expected text.
type column struct {
	ddl    string                      // type of the column
	oracle string                      // expression that returns the expected text; {} stands for the column
	same   func(want, got string) bool // nil: the texts must be equal
	json   shape
	values []string // SQL literals; NULL is added
}

// shape is the form of a value that is not NULL in JSON.
type shape string

const (
	inString shape = "string"
	bare     shape = "number or bool"
	float    shape = "number, or NaN and infinities as strings"
	document shape = "document"
	damaged  shape = "object with the base64 of invalid UTF-8"
	byClass  shape = "as its SQLite storage class has it" // the first letter of the oracle's text says which
)

func (s shape) of(want, text string) shape {
	if s == byClass {
		switch want[0] {
		case 'i':
			s = bare
		case 'r':
			s = float
		default:
			s = inString
		}
	}
	if s == inString && !utf8.ValidString(text) {
		return damaged
	}
	if s == float {
		switch text {
		case "NaN", "Infinity", "-Infinity":
			return inString
		}
		return bare
	}
	return s
}

// sameFloat compares the printed forms of a float by its bits. It also requires that
// neither form has more digits than needed to identify the float.
func sameFloat(bits int) func(want, got string) bool {
	return func(want, got string) bool {
		w, err1 := strconv.ParseFloat(want, bits)
		g, err2 := strconv.ParseFloat(got, bits)
		if err1 != nil || err2 != nil {
			return false
		}
		if math.IsNaN(w) || math.IsInf(w, 0) {
			return want == got
		}
		return math.Float64bits(w) == math.Float64bits(g) && digits(got) == digits(strconv.FormatFloat(g, 'e', -1, bits))
	}
}

// digits returns the significant digits of a number.
func digits(s string) string {
	s, _, _ = strings.Cut(strings.ToLower(s), "e")
	return strings.Trim(strings.ReplaceAll(strings.TrimPrefix(s, "-"), ".", ""), "0")
}

// sameJSON compares two documents, including the order of keys, duplicates and digits. It
// ignores white space between tokens.
func sameJSON(want, got string) bool {
	var w bytes.Buffer
	return json.Compact(&w, []byte(want)) == nil && w.String() == got
}

// typesTable is a table "types" with all columns, named c0, c1 and so on, and the key id.
// Row n has value n of every column. The first row is NULL, and so are columns without a
// value n.
type typesTable struct {
	columns []column
	rows    int
}

func newTypesTable(columns []column) typesTable {
	t := typesTable{columns: columns}
	for _, c := range columns {
		t.rows = max(t.rows, len(c.values)+1)
	}
	return t
}

func (t typesTable) create(tb testing.TB, db *sqlx.DB, options string) {
	tb.Helper()
	defs := []string{"id integer not null primary key"}
	for i, c := range t.columns {
		null := " NULL" // otherwise MariaDB replaces NULL by the current time
		if strings.HasPrefix(db.DriverName(), "sqlite") {
			null = "" // it would become part of the type's name
		}
		defs = append(defs, fmt.Sprintf("c%d %s%s", i, c.ddl, null))
	}
	_, err := db.Exec("CREATE TABLE types (" + strings.Join(defs, ", ") + ") " + options)
	require.NoError(tb, err)
	for n := range t.rows {
		values := []string{strconv.Itoa(n)}
		for _, c := range t.columns {
			if n == 0 || n > len(c.values) {
				values = append(values, "NULL")
			} else {
				values = append(values, c.values[n-1])
			}
		}
		_, err := db.Exec("INSERT INTO types VALUES (" + strings.Join(values, ", ") + ")")
		require.NoError(tb, err, "row %d: %v", n, values)
	}
}

// want returns the expected text of every cell, by the database, and nil for NULL.
func (t typesTable) want(tb testing.TB, db *sqlx.DB) [][]*string {
	tb.Helper()
	exprs := []string{"id"}
	for i, c := range t.columns {
		exprs = append(exprs, strings.ReplaceAll(c.oracle, "{}", fmt.Sprintf("c%d", i)))
	}
	rows, err := db.Query("SELECT " + strings.Join(exprs, ", ") + " FROM types ORDER BY id")
	require.NoError(tb, err)
	defer rows.Close()
	var all [][]*string
	for rows.Next() {
		cells := make([]*string, len(t.columns))
		dest := []any{new(int64)}
		for i := range cells {
			dest = append(dest, &cells[i])
		}
		require.NoError(tb, rows.Scan(dest...))
		all = append(all, cells)
	}
	require.NoError(tb, rows.Err())
	require.Len(tb, all, t.rows)
	return all
}

// check reads the table through sqlsource, writes it as JSON Lines and CSV, parses both
// with the standard library, and compares every cell with the expected text.
func (t typesTable) check(tb testing.TB, db *sqlx.DB, want [][]*string) []row.Row {
	tb.Helper()
	records := fetchAll(tb, &sqlsource.Table{DB: db, Name: "types", Key: []string{"id"}, Ceiling: ceiling.None{}})
	require.Len(tb, records, t.rows)

	var lines, file []byte
	var err error
	file = records[0].AppendCSVHeader(file)
	for _, r := range records {
		lines, err = r.AppendJSON(lines)
		require.NoError(tb, err)
		lines = append(lines, '\n')
		file, err = r.AppendCSV(file)
		require.NoError(tb, err)
	}
	jsonRows := strings.Split(strings.TrimSuffix(string(lines), "\n"), "\n")
	require.Len(tb, jsonRows, t.rows, "a line holds a newline")
	csvRows, err := csv.NewReader(bytes.NewReader(file)).ReadAll()
	require.NoError(tb, err)
	require.Len(tb, csvRows, t.rows+1)

	for n := range t.rows {
		var object map[string]json.RawMessage
		require.NoError(tb, json.Unmarshal([]byte(jsonRows[n]), &object))
		require.Len(tb, object, len(t.columns)+1)
		require.Equal(tb, strconv.Itoa(n), string(object["id"]))
		require.Equal(tb, strconv.Itoa(n), csvRows[n+1][0])
		for i, c := range t.columns {
			where := fmt.Sprintf("row %d, c%d %s", n, i, c.ddl)
			if n > 0 && n <= len(c.values) {
				where += " " + c.values[n-1]
			}
			r := records[n]
			require.Equal(tb, fmt.Sprintf("c%d", i), csvRows[0][i+1])
			raw := string(object[fmt.Sprintf("c%d", i)])
			cell := csvRows[n+1][i+1]
			if want[n][i] == nil {
				if raw != "null" || cell != "" || !r.IsNull(i+1) {
					tb.Errorf("%s: NULL became %s in JSON, %q in CSV", where, raw, cell)
				}
				continue
			}
			got, form := parseJSON(tb, raw, c.json)
			same := c.same
			if same == nil {
				same = func(want, got string) bool { return want == got }
			}
			if !same(*want[n][i], got) {
				tb.Errorf("%s: the database says %.200q, JSON %.200q", where, *want[n][i], got)
			}
			// encoding/csv converts CR LF to LF within quotes.
			if cell != strings.ReplaceAll(got, "\r\n", "\n") {
				tb.Errorf("%s: JSON says %.200q, CSV %.200q", where, got, cell)
			}
			if r.Text(i+1) != got || r.IsNull(i+1) {
				tb.Errorf("%s: JSON says %.200q, Text %.200q", where, got, r.Text(i+1))
			}
			if form != c.json.of(*want[n][i], got) {
				tb.Errorf("%s: JSON has the form %s (%.200s), want %s", where, form, raw, c.json.of(*want[n][i], got))
			}
		}
	}
	return records
}

// parseJSON returns the text of a JSON value, and its form.
func parseJSON(tb testing.TB, raw string, as shape) (string, shape) {
	tb.Helper()
	if as == document {
		return raw, document
	}
	switch raw[0] {
	case '{':
		var o struct{ Base64 []byte }
		require.NoError(tb, json.Unmarshal([]byte(raw), &o))
		return string(o.Base64), damaged
	case '"':
	default:
		return raw, bare
	}
	var s string
	require.NoError(tb, json.Unmarshal([]byte(raw), &s))
	return s, inString
}

func fetchAll(tb testing.TB, src source.Source[row.Row]) []row.Row {
	tb.Helper()
	var records []row.Row
	for after := source.Cursor(""); ; {
		b, err := lab.Fetch(tb, src, after, 3)
		require.NoError(tb, err)
		if len(b.Records) == 0 && b.To == after {
			return records
		}
		records = append(records, b.Records...)
		after = b.To
	}
}
