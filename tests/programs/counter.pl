use IO::Socket::INET; use IO::Select;
my $server = IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => $ARGV[0], Listen => 5, ReuseAddr => 1);
my $all = IO::Select->new($server); my $n = 0; my %seen;
while (1) { for my $s ($all->can_read) {
  if ($s == $server) { my $c = $server->accept; $c->autoflush(1); $all->add($c); next }
  my $line = <$s>; if (!defined $line) { $all->remove($s); close $s; next }
  $seen{++$n} = "x" x 100; print $s "$n\n"; } }
