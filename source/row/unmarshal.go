package row

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
)

var errObject = errors.New("row: a row is one JSON object")

// UnmarshalJSON sets r to the row that [Row.AppendJSON] has written. The kinds of
// the columns are not in JSON, so all are [Auto]. The row is written as the same
// JSON again. It is written as the same CSV, except for a JSON column whose value is
// a string or an object with "base64" as its only key.
func (r *Row) UnmarshalJSON(object []byte) error {
	d := json.NewDecoder(bytes.NewReader(object))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return errObject
	}
	var names []string
	b := &batch{arena: make([]byte, 0, len(object))}
	for d.More() {
		name, err := d.Token()
		var value json.RawMessage
		if err == nil {
			err = d.Decode(&value)
		}
		if err != nil {
			return errObject // without the text of err, which may contain values
		}
		names = append(names, name.(string)) // every key of JSON is a string
		var f form
		b.arena, f = appendCell(b.arena, value)
		if len(b.arena) > maxArena {
			return fmt.Errorf("row: a row can hold %d bytes", maxArena)
		}
		b.cells = append(b.cells, uint32(len(b.arena))<<formBits|uint32(f))
	}
	if _, err := d.Token(); err != nil {
		return errObject
	}
	b.columns = NewColumns(names, nil)
	*r = Row{b, 0}
	return nil
}

// appendCell appends the text of a JSON value, which is valid.
func appendCell(dst, value []byte) ([]byte, form) {
	var s string
	var binary map[string]string
	switch value[0] {
	case 'n':
		return dst, null
	case '"':
		_ = json.Unmarshal(value, &s)
		return append(dst, s...), text
	case '{':
		if json.Unmarshal(value, &binary) != nil || len(binary) != 1 || binary["base64"] == "" {
			break
		}
		if b, err := base64.StdEncoding.DecodeString(binary["base64"]); err == nil {
			return append(dst, b...), text
		}
	}
	return appendCompact(dst, value), literal
}
