//go:build !unix

package main_test

func (p *process) stopsWell() { p.t.Skip("this system cannot send signals to a process") }
