package verify

import (
	"encoding/base64"
	"encoding/csv"
	"fmt"
	"strings"

	"github.com/artifactofdevotion/devotion/sink/filesink"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/compare"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// keyText returns a key as one text: that of a single column, or the texts as a line
// of CSV.
func keyText(texts []string) string {
	if len(texts) == 1 {
		return texts[0]
	}
	var b strings.Builder
	for i, text := range texts {
		if i > 0 {
			b.WriteByte(',')
		}
		if strings.ContainsAny(text, ",\"\r\n") {
			text = `"` + strings.ReplaceAll(text, `"`, `""`) + `"`
		}
		b.WriteString(text)
	}
	return b.String()
}

// parseKey is the inverse of keyText.
func parseKey(text string, columns int) ([]string, error) {
	if columns == 1 {
		return []string{text}, nil
	}
	texts, err := csv.NewReader(strings.NewReader(text)).Read()
	if err != nil || len(texts) != columns {
		return nil, fmt.Errorf("%q is not a key", text)
	}
	return texts, nil
}

// at returns the cursor after a key.
func (v *verifier) at(t *sqlsource.Table, texts []string) (source.Cursor, error) {
	values := make([]any, len(texts))
	for i, text := range texts {
		values[i] = text
		if v.binary[i] {
			b, err := base64.StdEncoding.DecodeString(text)
			if err != nil {
				return "", fmt.Errorf("the key %s is damaged: %q is not base64", keyText(texts), v.table.Key[i])
			}
			values[i] = b
		}
	}
	return t.At(values...)
}

// order compares keys in the order of the database. The row with the key a must be
// in the table; if it is not, the result is 0 unless a row lies between the two.
func (v *verifier) order(t *sqlsource.Table, a, b []string) (int, error) {
	to, err := v.at(t, a)
	if err != nil {
		return 0, err
	}
	after, err := v.at(t, b)
	if err != nil {
		return 0, err
	}
	if found, err := v.rowsIn(t, after, to); !found {
		return 0, err
	}
	return 1, nil
}

// entryOf returns a function that makes the entry of a row of the table, by encoding
// it as the files have it.
func (v *verifier) entryOf(e filesink.Encoder[row.Row], f *format) func(*row.Row) (compare.Entry, error) {
	var buf []byte
	reader := &format{csv: f.csv, columns: f.columns}
	return func(r *row.Row) (entry compare.Entry, err error) {
		if buf, err = e.Append(buf[:0], r); err != nil {
			return entry, err
		}
		key, ok := reader.key(buf, v.table.Key)
		if !ok {
			return entry, fmt.Errorf("the key %q is not among the columns of the files: verify needs it", v.table.Key)
		}
		return compare.Entry{Key: keyText(key), Digest: compare.Digest(buf)}, nil
	}
}
