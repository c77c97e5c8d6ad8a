package dialect

import (
	"context"
	"database/sql"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// typeName matches a type's name in three parts: the first word or words, one or two numbers
// in parentheses, and more words.
var typeName = regexp.MustCompile(`^([^(]*?)\s*(?:\(([0-9]+)(?:,\s*(-?[0-9]+))?\))?((?:\s[^(]*)?)$`)

// ParseType returns the type with a name, such as "numeric(12,2)" or "int(10) unsigned", by
// what known says of the name without the numbers. If it says nothing, the Class is not known.
func ParseType(name string, known map[string]row.Type) row.Type {
	t := row.Type{Name: name}
	m := typeName.FindStringSubmatch(strings.ToLower(name))
	if m == nil {
		return t
	}
	t, ok := known[m[1]+m[4]]
	t.Name = name
	first, _ := strconv.Atoi(m[2])
	second, _ := strconv.Atoi(m[3])
	switch {
	case !ok:
	case t.Class == row.Decimal:
		t.Precision, t.Scale = first, second
	case t.Class == row.String || t.Class == row.Binary:
		t.Length = first
	}
	return t
}

// DriverType returns the type of a column of which no catalogue is known, by the driver's name
// for it and the numbers that the driver says.
func DriverType(c Column, known map[string]row.Type) row.Type {
	t := ParseType(strings.ToLower(c.Type), known)
	switch {
	case t.Class == row.Decimal && 0 < c.Precision && c.Precision < 1<<16:
		t.Precision, t.Scale = int(c.Precision), int(c.Scale)
		t.Name += fmt.Sprintf("(%d,%d)", c.Precision, c.Scale)
	case (t.Class == row.String || t.Class == row.Binary) && 0 < c.Length && c.Length < 1<<31-1:
		t.Length = int(c.Length)
		t.Name += fmt.Sprintf("(%d)", c.Length)
	}
	t.NotNull = c.NotNull
	return t
}

// ReadTypes runs a statement that returns the names of columns, those of their types, and
// whether they are NOT NULL. parse makes a type of a name.
func ReadTypes(ctx context.Context, db ceiling.Queryer, parse func(name string) row.Type, statement string, args ...any) (map[string]row.Type, error) {
	all := map[string]row.Type{}
	err := ceiling.Each(ctx, db, func(rows *sql.Rows) error {
		var name, typ string
		var notNull bool
		err := rows.Scan(&name, &typ, &notNull)
		t := parse(typ)
		t.NotNull = notNull
		all[name] = t
		return err
	}, statement, args...)
	return all, err
}

// ResultColumns returns the columns of a result, as the driver describes them.
func ResultColumns(rows *sql.Rows) ([]Column, error) {
	types, err := rows.ColumnTypes()
	if err != nil {
		return nil, err
	}
	columns := make([]Column, len(types))
	for i, t := range types {
		null, known := t.Nullable()
		columns[i] = Column{Name: t.Name(), Type: t.DatabaseTypeName(), NotNull: known && !null,
			Time: t.ScanType() == reflect.TypeFor[time.Time]() || t.ScanType() == reflect.TypeFor[sql.NullTime]()}
		columns[i].Length, _ = t.Length()
		columns[i].Precision, columns[i].Scale, _ = t.DecimalSize()
	}
	return columns, nil
}
