package row_test

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/artifactofdevotion/devotion/source/row"
)

// A consumer reads cells by name or number, or writes the whole row.
func Example() {
	columns := row.NewColumns(
		[]string{"id", "placed", "total", "note"},
		[]row.Kind{row.Auto, row.TimestampTZ, row.Number, row.Text})
	r, err := row.Of(columns, int64(9007199254740993),
		time.Date(2026, 1, 31, 23, 59, 59, 500_000_000, time.UTC), "19.90", nil)
	if err != nil {
		fmt.Println(err)
		return
	}

	total, _ := r.Get("total")
	fmt.Println(total, r.IsNull(3))

	line, _ := r.AppendJSON(nil)
	fmt.Println(string(line))

	record, _ := r.AppendCSV(r.AppendCSVHeader(nil))
	fmt.Printf("%q\n", record)
	// Output:
	// 19.90 true
	// {"id":9007199254740993,"placed":"2026-01-31T23:59:59.5Z","total":19.90,"note":null}
	// "id,placed,total,note\r\n9007199254740993,2026-01-31T23:59:59.5Z,19.90,\r\n"
}

// A source scans each row of a result into a Builder, and then takes the batch.
func ExampleBuilder() {
	b := row.NewBuilder(row.NewColumns([]string{"id", "name"}, nil), 5000)
	for id, name := range []any{"ink", "paper", nil} {
		// This is what rows.Scan(b.Dest()...) does:
		for i, value := range []any{int64(id), name} {
			if err := b.Dest()[i].(interface{ Scan(any) error }).Scan(value); err != nil {
				fmt.Println(err)
				return
			}
		}
		b.Add()
	}
	for _, r := range b.Rows() {
		line, _ := json.Marshal(r)
		fmt.Println(string(line))
	}
	// Output:
	// {"id":0,"name":"ink"}
	// {"id":1,"name":"paper"}
	// {"id":2,"name":null}
}

// A row does not show its values in logs and errors.
func ExampleRow_String() {
	r, _ := row.Of(row.NewColumns([]string{"email"}, nil), "ada@example.com")
	fmt.Println(r)
	// Output: row of columns ["email"]
}
