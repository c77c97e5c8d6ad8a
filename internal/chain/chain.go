// Package chain finds an error that others wrap.
package chain

import "errors"

// As returns the first error of type E that err is or wraps. Unlike errors.As it does
// not look into an error that wraps several: what one of them says is not what the
// whole says.
func As[E error](err error) (e E, ok bool) {
	for ; err != nil; err = errors.Unwrap(err) {
		if e, ok = any(err).(E); ok {
			return e, true
		}
	}
	return e, false
}
