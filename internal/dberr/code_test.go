package dberr_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/artifactofdevotion/devotion/internal/dberr"
)

// MySQLError has the name and the fields of go-sql-driver's type.
type MySQLError struct {
	Number   uint16
	SQLState [5]byte
	Message  string
}

func (*MySQLError) Error() string { return "refused" }

type pgError struct{ code string }

func (e *pgError) Error() string    { return "refused" }
func (e *pgError) SQLState() string { return e.code }

func TestCodes(t *testing.T) {
	t.Parallel()
	early := &MySQLError{Number: 1045} // errors before the login have no SQLSTATE
	late := &MySQLError{Number: 1146, SQLState: [5]byte([]byte("42S02"))}
	pg := &pgError{"42501"}
	for name, c := range map[string]struct {
		err    error
		number uint16
		state  string
	}{
		"nil":                 {nil, 0, ""},
		"other":               {errors.New("1146 (42S02)"), 0, ""},
		"nil pointer":         {(*MySQLError)(nil), 0, ""},
		"wrapped nil pointer": {fmt.Errorf("read: %w", (*pgError)(nil)), 0, ""},
		"mysql":               {late, 1146, "42S02"},
		"mysql without state": {early, 1045, ""},
		"postgres":            {pg, 0, "42501"},
		"wrapped":             {fmt.Errorf("read: %w", late), 1146, "42S02"},
		"joined":              {fmt.Errorf("read: %w", errors.Join(errors.New("x"), pg, late)), 1146, "42501"},
		"the first counts":    {errors.Join(early, late), 1045, "42S02"},
	} {
		assert.Equal(t, c.number, dberr.MySQLNumber(c.err), name)
		assert.Equal(t, c.state, dberr.SQLState(c.err), name)
	}
}

func TestAllStops(t *testing.T) {
	t.Parallel()
	a, b := errors.New("a"), errors.New("b")
	joined := errors.Join(fmt.Errorf("wrapped: %w", a), b)
	var seen []error
	for err := range dberr.All(joined) {
		if seen = append(seen, err); errors.Is(a, err) {
			break
		}
	}
	assert.Len(t, seen, 3, "the joined error, the wrapping one, a")
}
